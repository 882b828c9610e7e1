"""Look at the workspace's data: DuckDB over the tables that stages wrote, in place."""
