"""Plain decoding: the model's own logits."""
