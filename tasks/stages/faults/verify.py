"""What tests say of the two sides of a pair."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from tasks.core.programs import program
from tasks.core.records import Example, FaultPair, Unfit
from tasks.io.sandbox import Case, Limits, Verdict

RunCases = Callable[..., Iterator[Verdict]]
"""`sandbox.run`: takes cases, and limits by name."""
RUNS = 3
"""So many runs of a program decide whether its tests always say the same of it."""
REPEATABLE = ("assertion", "exception", "import")
"""Failures that a second run shows again. One that runs out of time or memory may pass on another machine."""
WRONG = Limits(cpu_s=2.0)
"""Of wrong programs. They fail in milliseconds or not at all, and it is endless ones that judging mutants waits for."""


def has_tests(example: Example) -> bool:
    """Whether the sandbox can judge programs for this example."""
    return example.tests is not None and example.tests.kind != "answer"


def sound(examples: Sequence[Example], run: RunCases) -> Iterator[Unfit | None]:
    """For each example, in order: None where its own program passes its tests in every run, or has none; or why not."""
    runs = _runs([(example, program(example.response)) for example in examples], RUNS, run)
    return (None if verdicts is None else _unsound(verdicts) for verdicts in runs)


def judge(pairs: Sequence[tuple[Example, FaultPair]], run: RunCases) -> Iterator[FaultPair | Unfit]:
    """Each pair, in order, with what its tests say of the wrong side; or why they do not show that it is wrong.

    Only what fails as a fault does is run again: to wait for an endless program once is enough.
    """
    run = partial(run, limits=WRONG)
    wrong = [(example, found.incorrect) for example, found in pairs]
    first = list(_runs(wrong, 1, run))
    doubtful = [verdicts is not None and verdicts[0].outcome in REPEATABLE for verdicts in first]
    more = _runs([each for each, again in zip(wrong, doubtful, strict=True) if again], RUNS - 1, run)
    for (_, found), verdicts, again in zip(pairs, first, doubtful, strict=True):
        yield found if verdicts is None else _judged(found, [*verdicts, *((next(more) or ()) if again else ())])


def _runs(programs: Sequence[tuple[Example, str]], times: int, run: RunCases) -> Iterator[list[Verdict] | None]:
    """The verdicts of some runs of each program under its example's tests, in order; None where there are none."""
    cases = [Case(code, e.tests) if e.tests is not None and has_tests(e) else None for e, code in programs]
    verdicts = run(case for case in cases if case for _ in range(times))
    return ([next(verdicts) for _ in range(times)] if case else None for case in cases)


def _unsound(runs: Sequence[Verdict]) -> Unfit | None:
    return _flaky(runs) or (
        None if runs[0].outcome == "passed" else Unfit("correct side fails", f"{runs[0].outcome}: {runs[0].detail}")
    )


def _judged(found: FaultPair, runs: Sequence[Verdict]) -> FaultPair | Unfit:
    if unfit := _flaky(runs):
        return unfit
    if runs[0].outcome in REPEATABLE:
        return replace(found, verified=True, outcome=runs[0].outcome)
    return Unfit(runs[0].outcome, runs[0].detail or "the tests do not notice the change")


def _flaky(runs: Sequence[Verdict]) -> Unfit | None:
    outcomes = sorted({verdict.outcome for verdict in runs})
    return Unfit("flaky tests", f"{len(runs)} runs ended in {' and '.join(outcomes)}") if len(outcomes) > 1 else None
