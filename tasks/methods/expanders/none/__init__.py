"""No expander: the model keeps its depth."""
