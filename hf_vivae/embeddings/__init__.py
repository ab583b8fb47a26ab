"""Embeddings of clips and what they show, started by `hf-vivae embed` and `hf-vivae similar`."""
