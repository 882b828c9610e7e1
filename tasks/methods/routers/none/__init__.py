"""No router: every prompt goes to the base."""
