"""No adapter: a selector chooses among the model's own weights."""
