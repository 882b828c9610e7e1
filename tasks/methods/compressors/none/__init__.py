"""No compression: the tuned model stays as it is."""
