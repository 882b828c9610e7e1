"""Show a run to a person: on the screen, on Prefect's pages, and in the summary at its end."""
