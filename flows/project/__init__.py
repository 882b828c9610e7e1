"""Change the contents of a workspace: import data, edit params.yaml, set the number of rounds, review rewrites."""
