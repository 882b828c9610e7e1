"""Helpers that run a program in the sandbox."""

import os
from pathlib import Path

import pytest

from tasks.core.records import Tests
from tasks.io.sandbox import Case, Limits, Verdict, run
from tasks.io.sandbox.process import Sandbox
from tasks.io.sandbox.records import Isolation

QUICK = Limits(wall_s=2.0, cpu_s=1.0)


def script(program: str, tests: str = "assert escaped", prelude: str = "") -> Case:
    return Case(program, Tests("script", tests, "f", prelude))


def examples(program: str, tests: str, prelude: str = "") -> Case:
    return Case(program, Tests("doctest", tests, "f", prelude))


def verdicts(*cases: Case, limits: Limits = QUICK, workers: int = 1) -> list[Verdict]:
    return list(run(cases, limits=limits, workers=workers))


def verdict(case: Case, limits: Limits = QUICK) -> Verdict:
    return verdicts(case, limits=limits)[0]


def require(isolation: Isolation) -> Isolation:
    """Return the isolation, or skip the test with the reason."""
    try:
        Sandbox(isolation, QUICK).close()
    except RuntimeError as error:
        pytest.skip(f"{isolation}: {error}")
    return isolation


def descendants(root: int) -> set[int]:
    """Return the descendants of process `root`, seen from the host."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # the process has just ended
        parents[int(entry.parent.name)] = int(fields[1])
    pids, fresh = set[int](), {root}
    while fresh:
        fresh = {child for child, parent in parents.items() if parent in fresh}
        pids |= fresh
    return pids


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
