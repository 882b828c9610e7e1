"""Shards: what was read of the sources, as Parquet and arrays on disk, some thousand rows each, named by what they were read from."""
