"""The generator that is no model: changes of programs whose meaning can be proved, or found by running them."""
