"""Readers of data sources: packages, folders, tables, the hub, generators. Each yields plain rows or texts."""
