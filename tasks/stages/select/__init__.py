"""Choose the best round."""
