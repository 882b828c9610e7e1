"""Licences: SPDX expressions, and the licences that a model may have, given those of its base and its data."""
