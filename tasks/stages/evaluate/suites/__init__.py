"""Suites of tests that a model wrote: the lines and branches of the program that they reach, and the mistakes that they detect."""
