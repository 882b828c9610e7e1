"""A tuned model in fewer bytes."""
