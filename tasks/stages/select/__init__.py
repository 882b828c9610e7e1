"""Choosing the round that is kept."""
