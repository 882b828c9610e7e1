"""The column that FAIT adds to tokens: flags for the relation of each token to the fault of its program."""

MARKS = "marks"
"""The column's name."""
LINE, CHAR, CODE = 1, 2, 4
"""Flags of a token: on a line that differs, itself different (or an anchor), part of the program."""
