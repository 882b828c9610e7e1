# mypy: ignore-errors
"""Replace pytest in the sandbox, where no package is installed: `raises`, and `approx` of numbers.

These are inlined into the tests that use them, like any helper of the project.
"""

import re


class raises:
    """Return a context in which this exception must be raised, with a text in which `match` is found."""

    def __init__(self, expected_exception, match=None):
        self.expected_exception, self.match, self.value = expected_exception, match, None

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        if kind is None:
            raise AssertionError(f"did not raise {self.expected_exception}")
        if not issubclass(kind, self.expected_exception):
            return False
        self.value = value
        if self.match is not None and not re.search(self.match, str(value)):
            raise AssertionError(f"{self.match!r} is not in {str(value)!r}")
        return True


class approx:
    """Return an object that equals any number close to `expected`, within a relative error of 1e-6 or an absolute error of 1e-12."""

    def __init__(self, expected, rel=1e-6, abs=1e-12):
        self.expected, self.rel, self.abs = expected, rel, abs

    def __eq__(self, actual):
        if isinstance(self.expected, (list, tuple)):
            pairs = zip(self.expected, actual, strict=False)
            return len(self.expected) == len(actual) and all(
                approx(one, self.rel, self.abs) == other for one, other in pairs
            )
        return actual == self.expected or -self._margin() <= actual - self.expected <= self._margin()

    def __ne__(self, actual):
        return not self == actual

    def __hash__(self):
        return 0

    def _margin(self):
        return max(self.abs, self.rel * max(self.expected, -self.expected))
