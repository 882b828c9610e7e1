"""Continued pretraining on the corpora."""
