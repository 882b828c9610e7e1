"""Accept or reject proposed rewrites: checks of the text, of the tests, against evaluation data, and by models."""
