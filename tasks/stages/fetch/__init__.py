"""Fetch the base model and the embedder."""
