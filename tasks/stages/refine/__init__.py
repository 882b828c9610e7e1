"""What becomes of the examples that a diagnosis chose (Middo): rewritten, added to, or left as they were."""
