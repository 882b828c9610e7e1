"""Compute the contents of the report: comparisons, verdicts, rounds of the loop, fault pairs. Nothing here formats a page."""
