"""Measures of checks that take more than grades of answers: likelihoods of options, a judge, calls that run."""
