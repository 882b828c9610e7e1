"""Weights of a model: its layers by kind, sparse differences, and the chat templates of a GGUF file."""
