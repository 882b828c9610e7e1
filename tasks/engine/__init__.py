"""The one training engine, with scoring and generation beside it."""
