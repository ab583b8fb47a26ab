"""Use of a checkpoint, opened by `hf-vivae predict`, `timeline`, `explain`, `export` and `demo`."""
