"""Quality rules for texts: measures from papers, each with a limit in the settings."""
