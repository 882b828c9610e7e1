"""Propose rewrites by rule, without a model: each change preserves the meaning or is checked by running the program."""
