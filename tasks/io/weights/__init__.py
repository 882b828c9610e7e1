"""Models on disk: saved, loaded, compressed."""
