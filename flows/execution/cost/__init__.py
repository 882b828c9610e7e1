"""Estimate the cost of a run on this machine: time from earlier runs or its speed, memory from counts."""
