"""Grade an answer like a run does, by a check that was written to a table and read again."""

from tasks.core.answers import registry
from tasks.core.answers.base import Row
from tasks.core.records import Unfit


def graded(check, response, answer, prompt="", **values):
    """Return the grade of an answer to a row whose response is `response`."""
    tests = registry.tests(registry.parse(check), Row(prompt, response, values))
    assert not isinstance(tests, Unfit), tests
    read, expected = registry.of(tests)  # values as a table returns them
    return read.grade(answer, expected)


def unfit(check, response, prompt="", **values):
    """Return the reason why the check does not fit a row."""
    tests = registry.tests(registry.parse(check), Row(prompt, response, values))
    assert isinstance(tests, Unfit), tests
    return tests.reason
