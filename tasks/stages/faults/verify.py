"""What tests say of the two sides of a pair."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from tasks.core.programs import program
from tasks.core.records import Example, FaultPair
from tasks.io.sandbox import Case, Verdict
from tasks.stages.faults.pair import Unfit

RunCases = Callable[[Iterable[Case]], Iterator[Verdict]]
RUNS = 3
"""So many runs of a correct program decide whether its tests always say the same."""
REPEATABLE = ("assertion", "exception", "import")
"""Failures that a second run shows again. One that runs out of time or memory may pass on another machine."""


def has_tests(example: Example) -> bool:
    """Whether the sandbox can judge programs for this example."""
    return example.tests is not None and example.tests.kind != "answer"


def sound(examples: Sequence[Example], run: RunCases) -> Iterator[Unfit | None]:
    """For each example, in order: None where its own program passes its tests in every run, or has none; or why not."""
    tested = [example for example in examples if has_tests(example)]
    verdicts = run(case(example, program(example.response)) for example in tested for _ in range(RUNS))
    found = {example.id: _unsound([next(verdicts) for _ in range(RUNS)]) for example in tested}
    return (found.get(example.id) for example in examples)


def judge(pairs: Sequence[tuple[Example, FaultPair]], run: RunCases) -> Iterator[FaultPair | Unfit]:
    """Each pair, in order, with what its tests say of the wrong side; or why they do not show that it is wrong."""
    verdicts = run(case(example, found.incorrect) for example, found in pairs if has_tests(example))
    for example, found in pairs:
        yield _judged(found, next(verdicts)) if has_tests(example) else found


def case(example: Example, code: str) -> Case:
    """A program under an example's tests."""
    assert example.tests is not None
    return Case(code, example.tests)


def _unsound(runs: Sequence[Verdict]) -> Unfit | None:
    outcomes = {verdict.outcome for verdict in runs}
    if len(outcomes) > 1:
        return Unfit("flaky tests", f"{len(runs)} runs of the correct program ended in {', '.join(sorted(outcomes))}")
    if outcomes != {"passed"}:
        return Unfit("correct side fails", f"{runs[0].outcome}: {runs[0].detail}")
    return None


def _judged(found: FaultPair, verdict: Verdict) -> FaultPair | Unfit:
    if verdict.outcome in REPEATABLE:
        return replace(found, verified=True, outcome=verdict.outcome)
    return Unfit(verdict.outcome, verdict.detail or "the tests do not notice the change")
