"""Base model and embedder, from wherever they come."""
