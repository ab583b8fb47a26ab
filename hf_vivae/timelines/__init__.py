"""Labels of recordings over time, started by `hf-vivae timeline`."""
