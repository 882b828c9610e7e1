"""Store a tuned model in fewer bytes."""
