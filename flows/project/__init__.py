"""Change what a workspace holds: import data, edit params.yaml, set the number of rounds, review rewrites."""
