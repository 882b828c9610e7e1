"""Examples and corpora: read, checked, split, and kept apart from what they are measured on."""
