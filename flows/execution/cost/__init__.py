"""Foretell what a run costs on this machine: time from earlier runs or from its speed, memory from counts."""
