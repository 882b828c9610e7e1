"""Texts and programs as text: n-grams, contamination, wording, code in answers."""
