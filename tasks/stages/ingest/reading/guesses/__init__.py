"""Guess the settings of a table from its first rows: the columns that make a conversation, and how to combine them."""
