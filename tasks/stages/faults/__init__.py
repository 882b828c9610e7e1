"""Pairs of a correct program and a similar wrong one, with the differences marked (FAIT)."""
