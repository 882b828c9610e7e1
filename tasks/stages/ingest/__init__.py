"""Stage `ingest`: read sources, mine functions, remove duplicates and leaks, split, and account for every refused record."""
