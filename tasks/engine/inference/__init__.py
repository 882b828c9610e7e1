"""Inference: scoring, generation, embeddings, and what is read from a forward pass."""
