"""Rows of tables as conversations: their columns and shapes, turns, calls of tools, judgements, weights."""
