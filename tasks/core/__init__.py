"""Records, settings, statistics: pure, and known to everybody."""
