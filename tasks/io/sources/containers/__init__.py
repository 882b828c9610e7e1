"""Bytes of a file, whatever contains them: compression, archives, encodings of text, lines of any length."""
