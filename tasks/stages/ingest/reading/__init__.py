"""Read the sources of params.yaml into examples and documents; a row that cannot be read becomes a refusal."""
