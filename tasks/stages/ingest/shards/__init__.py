"""Shards: the records of the sources as Parquet and arrays on disk, some thousand rows each, named by a digest of their origin."""
