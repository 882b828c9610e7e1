"""Which candidates are examples: those whose own solution passes their doctests while nothing idle does."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator

from tasks.core.records import Example, Refusal
from tasks.io.sandbox import Case, Verdict
from tasks.stages.ingest.mine import Candidate


def verify(
    candidates: Iterable[Candidate | Refusal], run: Callable[[Iterable[Case]], Iterator[Verdict]]
) -> Iterator[Example | Refusal]:
    """An example or a refusal for each candidate, lazily and in order. Refusals that come in go out unchanged.

    All cases make one stream, so that the sandboxes behind `run` never wait for a verdict to be understood.
    """
    waiting: deque[Candidate | Refusal] = deque()
    verdicts = run(_cases(candidates, waiting))
    for verdict in verdicts:
        yield from _refusals(waiting)
        candidate = waiting.popleft()
        assert isinstance(candidate, Candidate)
        yield _judge(candidate, verdict, [next(verdicts) for _ in candidate.idle])
    yield from _refusals(waiting)


def _cases(candidates: Iterable[Candidate | Refusal], waiting: deque[Candidate | Refusal]) -> Iterator[Case]:
    """The cases of each candidate: its solution, then what does nothing. Everything read is put into `waiting`."""
    for candidate in candidates:
        waiting.append(candidate)
        if isinstance(candidate, Candidate):
            assert candidate.example.tests is not None
            for program in (candidate.program, *candidate.idle):
                yield Case(program, candidate.example.tests)


def _refusals(waiting: deque[Candidate | Refusal]) -> Iterator[Refusal]:
    while waiting and isinstance(waiting[0], Refusal):
        yield waiting.popleft()  # type: ignore[misc]


def _judge(candidate: Candidate, verdict: Verdict, idle: list[Verdict]) -> Example | Refusal:
    if verdict.kind == "untested" or (verdict.kind == "passed" and not verdict.executed):
        return _refusal(candidate, "untested", "no expectation was executed")
    if verdict.kind != "passed":
        return _refusal(candidate, "fails_alone", f"{verdict.kind}: {verdict.detail}")
    passing = [program for program, result in zip(candidate.idle, idle, strict=True) if result.kind == "passed"]
    if passing:
        return _refusal(candidate, "trivial_passes", f"`{passing[0].splitlines()[-1].strip()}` passes as well")
    return candidate.example


def _refusal(candidate: Candidate, reason: str, detail: str) -> Refusal:
    source, _, name = candidate.example.source.rpartition(":")
    return Refusal(source, name, reason, detail, candidate.program[:200])
