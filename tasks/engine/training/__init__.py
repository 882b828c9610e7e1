"""Training: compositions put together, the one loop, checkpoints, telemetry."""
