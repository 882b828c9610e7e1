"""Choose the candidate for promotion."""
