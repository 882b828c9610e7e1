"""No adapter: the model's own weights are what a selector chooses from."""
