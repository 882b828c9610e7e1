"""MLflow runs: recorded in a spool on disk, uploaded, looked up, registered."""
