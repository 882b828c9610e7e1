"""Records, settings, statistics and text: pure functions that all other packages may import."""
