"""Use of a checkpoint, started by `hf-vivae predict`, `timeline`, `explain`, `export` and `demo`."""
