"""What a model is worth, here and elsewhere."""
