"""Plain weights, as the model's folder holds them."""
