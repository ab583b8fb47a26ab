"""Checkpoints: name to folder to model, adapters and calibration."""
