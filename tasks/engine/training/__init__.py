"""Training: assembling compositions, the training loop, checkpoints, telemetry."""
