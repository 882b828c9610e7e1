"""Weights of a model: its layers by kind, and sparse differences."""
