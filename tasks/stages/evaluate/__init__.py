"""Measure a model on the domain and on general data."""
