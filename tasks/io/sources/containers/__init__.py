"""Read the bytes of a file through its containers: compression, archives, text encodings, lines of any length."""
