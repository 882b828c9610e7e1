"""Grade an answer as a run does: by a check that went through a table."""

from tasks.core.answers import registry
from tasks.core.answers.base import Row
from tasks.core.records import Unfit


def graded(check, response, answer, prompt="", **values):
    """The grade of an answer where `response` is the row's."""
    tests = registry.tests(registry.parse(check), Row(prompt, response, values))
    assert not isinstance(tests, Unfit), tests
    read, expected = registry.of(tests)  # as they come out of a table
    return read.grade(answer, expected)


def unfit(check, response, prompt="", **values):
    """The reason why the check does not fit a row."""
    tests = registry.tests(registry.parse(check), Row(prompt, response, values))
    assert isinstance(tests, Unfit), tests
    return tests.reason
