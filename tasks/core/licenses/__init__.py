"""Licences: expressions of SPDX, and what those of base and data leave for a model."""
