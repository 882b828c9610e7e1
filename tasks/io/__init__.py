"""Disk, models, MLflow, subprocesses, sources of data."""
