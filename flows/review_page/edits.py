"""Run the tests of an edit before it is taken."""

from flows.review_page.entries import Entry
from tasks.core.records import Tests
from tasks.core.text.programs import program
from tasks.io import sandbox, verifiers

CALL = "Its answer calls a tool, which an edited text could not do. Reject the example, or correct it in its source."
RUNS = 2
"""Number of runs that must all pass, as in the next run of the pipeline."""


def problem(entry: Entry, text: str, before: str) -> str:
    """Return the sentence that says why an edit cannot be taken; empty if it can. It was made from `before`: the response, or an earlier edit.

    Programs run in the sandbox, other answers are judged by their verifier. The tests of a refused addition are not kept, so that
    the next run alone can run them.
    """
    if calls_a_tool(entry):
        return CALL
    if not text.strip():
        return "The text is empty. To leave it out, reject it."
    if text == before:
        return "Nothing was edited."
    if text == entry.response:
        return "That is the text as it was before it was edited. Undo the edit instead."
    if not entry.knows_tests:
        return ""
    tests = entry.answered.tests
    if tests is None:
        return _untestable(entry)
    if tests.run_programs:
        return _problem_of_program(text, tests)
    try:
        return "" if verifiers.acceptance(tests, text) >= 1 else "The edit fails its tests: the verifier rejects it."
    except verifiers.Unisolated as reason:
        return f"The edit cannot be tested: {reason}."


def calls_a_tool(entry: Entry) -> bool:
    """Return True if the answer is a tool call."""
    return bool(entry.answered.messages[-1].tool_calls)


def _untestable(entry: Entry) -> str:
    if entry.answered.task != "function":
        return ""
    return "The next run would refuse an edit of this program: it has no tests that tell a right one from a wrong one."


def _problem_of_program(text: str, tests: Tests) -> str:
    level = sandbox.probe()
    if level.number < 2:
        return f"The edit cannot be tested, as this machine runs no programs: {level.missing}. `ratchet doctor` says what is needed."
    verdicts = sandbox.run([sandbox.Case(program(text), tests)] * RUNS)
    failure = next((verdict for verdict in verdicts if verdict.kind != "passed"), None)
    return f"The edit fails its tests: {failure.kind}: {failure.detail}".rstrip(": ") if failure else ""
