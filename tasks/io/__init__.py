"""Access to disk, model files, MLflow, subprocesses and sources of data."""
