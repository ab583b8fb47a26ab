"""Labelled segments of recordings, and the formats of annotation tools."""
