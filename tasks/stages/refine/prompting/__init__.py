"""Propose rewrites by prompting a model: the prompts, the parsing of its answers, and the generator that calls it."""
