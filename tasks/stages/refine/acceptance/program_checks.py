"""Checks that run a proposal's program: it must pass its tests every time, and wrong programs must fail them."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from tasks.core.records import Example, Unfit
from tasks.core.text.programs import program
from tasks.io.sandbox import Case, Verdict
from tasks.stages.refine.example_text import is_code
from tasks.stages.refine.proposals import Proposal

NO_SANDBOX = Unfit("no sandbox", "programs are not run on this machine; `ratchet doctor` says what would do")
RUNS = 2
"""Number of runs of a program. If they end differently, its tests are flaky."""

RunPrograms = Callable[[Iterable[Case]], Iterator[Verdict]]


def check_programs(
    proposals: Sequence[Proposal], run: RunPrograms | None, score: Callable[[Example], float]
) -> Iterator[Unfit | None]:
    """Reject proposals that fail their tests, and those whose tests accept a wrong program.

    `run` is None if there is no sandbox; `score` is the verifier of puzzles and of answers with a check.
    """
    untestable = [_check_testable(proposal, run) for proposal in proposals]
    cases = [
        list(_cases(proposal)) if unfit is None else [] for proposal, unfit in zip(proposals, untestable, strict=True)
    ]
    verdicts = run(case for cases_of_one in cases for case in cases_of_one) if run and any(cases) else iter(())
    for proposal, unfit, cases_of_one in zip(proposals, untestable, cases, strict=True):
        runs = [next(verdicts) for _ in cases_of_one]
        yield unfit or (_check_verdicts(runs) if runs else check_answer(proposal.example, score))


def _check_testable(proposal: Proposal, run: RunPrograms | None) -> Unfit | None:
    if not is_code(proposal.example):
        return None
    if proposal.example.tests is None:
        return Unfit("no tests", "nothing would tell a right program from a wrong one")
    return None if run else NO_SANDBOX


def check_answer(example: Example, score: Callable[[Example], float]) -> Unfit | None:
    """Reject an answer that its verifier does not accept."""
    if example.tests is None or score(example) >= 1:
        return None
    return Unfit("fails its tests", "its verifier does not take the answer")


def _cases(proposal: Proposal) -> Iterator[Case]:
    """Yield the program `RUNS` times, then the programs that must fail; nothing for puzzles and texts."""
    tests = proposal.example.tests
    if tests is not None and tests.run_programs:
        for code in (*(program(proposal.example.response) for _ in range(RUNS)), *proposal.wrong_programs):
            yield Case(code, tests)


def _check_verdicts(verdicts: Sequence[Verdict]) -> Unfit | None:
    of_program, of_wrong_programs = verdicts[:RUNS], verdicts[RUNS:]
    kinds = sorted({verdict.kind for verdict in of_program})
    if kinds == ["passed"]:
        passes = any(verdict.kind == "passed" for verdict in of_wrong_programs)
        return Unfit("tests tell nothing", "they let another program pass") if passes else None
    failure = next(verdict for verdict in of_program if verdict.kind != "passed")
    if len(kinds) > 1:
        return Unfit("flaky tests", f"{RUNS} runs ended in {' and '.join(kinds)}")
    return Unfit("fails its tests", f"{failure.kind}: {failure.detail}")
