"""What would be promoted."""
