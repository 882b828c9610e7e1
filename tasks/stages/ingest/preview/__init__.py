"""The preview of the data that `ingest` reads, before they are imported."""
