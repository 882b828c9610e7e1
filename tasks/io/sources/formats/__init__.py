"""Formats of tables and documents: one module each, found by content before name."""
