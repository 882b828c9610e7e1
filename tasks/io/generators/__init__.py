"""Generators of text: a client of model servers, and a cache of answers."""
