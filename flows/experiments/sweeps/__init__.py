"""Sweeps: any setting varied on a grid, at random or by an optimiser, each trial trained once."""
