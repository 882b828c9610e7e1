"""Verify both sides of a pair by the example's tests: the correct side must pass, the wrong side must fail.

Programs run in the sandbox, and a verifier grades any other answer.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from tasks.core.answers.base import Grade
from tasks.core.records import Example, FaultPair, Unfit
from tasks.core.text.programs import holds_program, program
from tasks.io import verifiers
from tasks.io.sandbox import Case, Limits, Verdict

RunCases = Callable[..., Iterator[Verdict]]
"""`sandbox.run`: takes cases, and limits by name."""
RUNS = 3
"""Runs of a program whose verdicts must agree."""
REPEATABLE = ("assertion", "exception", "import")
"""Failures that repeat on any machine. A program that runs out of time or memory may pass elsewhere."""
WRONG = Limits(cpu_s=2.0)
"""Limits of wrong programs. They fail within milliseconds or not at all; most of the time is spent on endless loops."""


def has_tests(example: Example) -> bool:
    """Return True if the example has tests that the sandbox can run."""
    return example.tests is not None and example.tests.run_programs


def tells_apart(example: Example) -> bool:
    """Return True if the example's tests tell right answers from wrong ones. A judge's opinion and a similarity score do not."""
    return has_tests(example) or (example.tests is not None and verifiers.decides(example.tests))


def sound(examples: Sequence[Example], run: RunCases) -> Iterator[Unfit | None]:
    """Yield for each example, in order, None if its answer passes its tests in every run or has none, else the reason."""
    runs = _runs([(example, program(example.response)) for example in examples], RUNS, run)
    for example, verdicts in zip(examples, runs, strict=True):
        if verdicts is not None:
            yield _unsound(verdicts)
        elif (verdict := _verdict(example, example.response)) is None or verdict.score == 1:
            yield None
        else:
            yield Unfit("correct side fails", f"{verdict.verdict} by the example's verifier")


def judge(pairs: Sequence[tuple[Example, FaultPair]], run: RunCases) -> Iterator[FaultPair | Unfit]:
    """Yield each pair, in order, marked as verified if tests show that the wrong side is wrong, or the reason to refuse it.

    Only programs with repeatable failures are run again, so that an endless program costs its time limit only once.
    """
    run = partial(run, limits=WRONG)
    wrong = [(example, pair.incorrect) for example, pair in pairs]
    first = list(_runs(wrong, 1, run))
    doubtful = [verdicts is not None and verdicts[0].kind in REPEATABLE for verdicts in first]
    more = _runs([each for each, again in zip(wrong, doubtful, strict=True) if again], RUNS - 1, run)
    for (example, pair), verdicts, again in zip(pairs, first, doubtful, strict=True):
        if verdicts is not None:
            yield _judged(pair, [*verdicts, *((next(more) or ()) if again else ())])
        else:
            yield _graded(example, pair)


def _graded(example: Example, pair: FaultPair) -> FaultPair | Unfit:
    """Return a pair whose wrong side does not run in the sandbox: unchanged if nothing judges it, else as its verifier decides."""
    verdict = _verdict(example, pair.incorrect)
    if verdict is None:
        return pair
    if verdict.score == 1:
        return Unfit("passed", "the example's verifier takes it")
    return replace(pair, verified=True, outcome=verdict.verdict)


def _verdict(example: Example, answer: str) -> Grade | None:
    """Return the grade of an answer that is not a program; None for a program, or if no verifier decides it."""
    if holds_program(example) or not tells_apart(example):
        return None
    assert example.tests is not None
    return verifiers.grade(example.tests, answer)


def _runs(programs: Sequence[tuple[Example, str]], times: int, run: RunCases) -> Iterator[list[Verdict] | None]:
    """Yield the verdicts of `times` runs of each program under its example's tests, in order; None if it has no tests."""
    cases = [Case(code, e.tests) if e.tests is not None and has_tests(e) else None for e, code in programs]
    verdicts = run(case for case in cases if case for _ in range(times))
    return ([next(verdicts) for _ in range(times)] if case else None for case in cases)


def _unsound(runs: Sequence[Verdict]) -> Unfit | None:
    return _flaky(runs) or (
        None if runs[0].kind == "passed" else Unfit("correct side fails", f"{runs[0].kind}: {runs[0].detail}")
    )


def _judged(pair: FaultPair, runs: Sequence[Verdict]) -> FaultPair | Unfit:
    if unfit := _flaky(runs):
        return unfit
    if runs[0].kind in REPEATABLE:
        return replace(pair, verified=True, outcome=runs[0].kind)
    return Unfit(runs[0].kind, runs[0].detail or "the tests do not notice the change")


def _flaky(runs: Sequence[Verdict]) -> Unfit | None:
    kinds = sorted({verdict.kind for verdict in runs})
    return Unfit("flaky tests", f"{len(runs)} runs ended in {' and '.join(kinds)}") if len(kinds) > 1 else None
