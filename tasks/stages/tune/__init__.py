"""Train on the examples of a round."""
