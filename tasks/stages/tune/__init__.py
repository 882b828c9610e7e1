"""Training on the examples of a round."""
