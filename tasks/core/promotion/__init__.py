"""Promotion: the choice of the candidate, and the rules by which the gate judges it."""
