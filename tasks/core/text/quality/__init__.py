"""Rules of the quality of texts: measures from papers, each with a limit in the settings."""
