"""Which programs are almost right, and where they are wrong (FAIT)."""
