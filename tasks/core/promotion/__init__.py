"""Promotion: which model is the candidate, and the rules by which the gate judges it."""
