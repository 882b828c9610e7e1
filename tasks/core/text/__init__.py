"""Texts, and programs as text: n-grams, contamination, prompts, code in answers."""
