"""Nothing is left out: a pass of a training is the model's own."""
