"""Show a run to a person: the screen, Prefect's pages, the summary at its end."""
