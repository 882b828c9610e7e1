"""Verify candidates: the solution must pass its tests, and the trivial bodies (`pass`, …) must fail them."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator

from tasks.core.records import Example, Refusal
from tasks.io.sandbox import Case, Verdict
from tasks.stages.ingest.mining.candidates import Candidate


def verify_candidates(
    candidates: Iterable[Candidate | Example | Refusal], run: Callable[[Iterable[Case]], Iterator[Verdict]]
) -> Iterator[Example | Refusal]:
    """Yield an example or a refusal for each candidate, lazily and in order. Refusals and examples without tests pass through.

    All cases form one stream, so that the sandboxes of `run` never wait until a verdict is read.
    """
    waiting: deque[Candidate | Example | Refusal] = deque()
    verdicts = run(_cases(candidates, waiting))
    for verdict in verdicts:
        yield from _without_cases(waiting)
        candidate = waiting.popleft()
        assert isinstance(candidate, Candidate)
        yield _judge(candidate, verdict, [next(verdicts) for _ in candidate.trivial_programs])
    yield from _without_cases(waiting)


def _cases(
    candidates: Iterable[Candidate | Example | Refusal], waiting: deque[Candidate | Example | Refusal]
) -> Iterator[Case]:
    """Yield the cases of each candidate: its solution, then the trivial bodies. Every record that is read is appended to `waiting`."""
    for candidate in candidates:
        waiting.append(candidate)
        if isinstance(candidate, Candidate):
            assert candidate.example.tests is not None
            for program in (candidate.program, *candidate.trivial_programs):
                yield Case(program, candidate.example.tests)


def _without_cases(waiting: deque[Candidate | Example | Refusal]) -> Iterator[Example | Refusal]:
    while waiting and not isinstance(waiting[0], Candidate):
        yield waiting.popleft()  # type: ignore[misc]


def _judge(candidate: Candidate, verdict: Verdict, trivial: list[Verdict]) -> Example | Refusal:
    if verdict.kind == "untested" or (verdict.kind == "passed" and not verdict.executed):
        return _refusal(candidate, "untested", "no expectation was executed")
    if verdict.kind != "passed":
        return _refusal(candidate, "fails_alone", f"{verdict.kind}: {verdict.detail}")
    passing = [
        program for program, result in zip(candidate.trivial_programs, trivial, strict=True) if result.kind == "passed"
    ]
    if passing:
        return _refusal(candidate, "trivial_passes", f"`{passing[0].splitlines()[-1].strip()}` passes as well")
    return candidate.example


def _refusal(candidate: Candidate, reason: str, detail: str) -> Refusal:
    source, _, name = candidate.example.source.rpartition(":")
    return Refusal(source, name, reason, detail, candidate.program[:200])
