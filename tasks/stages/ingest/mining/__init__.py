"""Mine functions with doctests from Python packages: cut them out, inline their dependencies, verify them in the sandbox."""
