"""Inference: scoring, generation, embeddings, and other values that are read from a forward pass."""
