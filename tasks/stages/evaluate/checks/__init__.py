"""Measures of checks that need more than the grade of an answer: likelihoods of options, a judge, executed tool calls."""
