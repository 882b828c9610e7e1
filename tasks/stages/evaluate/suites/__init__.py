"""Suites of tests that a model wrote: what they reach of the program, and what they notice of mistakes in it."""
