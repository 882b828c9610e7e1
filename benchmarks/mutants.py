"""Plant named mistakes in the source, one at a time, and check that the test named for each fails: `make mutants`.

`tests/mutants/*.yaml` lists them: a file, a text that occurs once in it, the text in its place, and the test that has to fail. A
mistake that goes unnoticed is a promise that nothing holds; it is named at the end, and the exit status is 1. So it is where a text
is no longer in its file: who changes guarded code changes the mistake with it.

    python benchmarks/mutants.py                 # all of them
    python benchmarks/mutants.py gate leak       # those whose name, file or test has one of these words
    python benchmarks/mutants.py --today         # a dozen, others every day: what continuous integration runs

Nothing is planted in the working tree: each test file has a copy of the tree of its own. Libraries are imported once, and each mistake
is a child that is forked from there and imports the project's code anew.
"""

import argparse
import contextlib
import datetime
import gc
import importlib
import multiprocessing
import os
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Literal

import yaml

ROOT = Path(__file__).resolve().parents[1]
FOLDER = Path("tests/mutants")
OURS = ("benchmarks", "flows", "tasks", "tests")
"""Packages that every child imports anew."""
LIBRARIES = ("pytest", "scipy.stats", "torch", "transformers", "peft", "libcst", "dvc.repo")
"""Modules that take long to import. None of them starts a thread, so forking is safe; polars and mlflow would start some."""
QUIET = {"JE_ARROW_MALLOC_CONF": "background_thread:false", "OPENBLAS_NUM_THREADS": "1"}
"""Settings without which some of them would start threads."""
DOZEN = 12
TIMES, PATIENCE_S = 10, 30.0
"""The time limit of a mutant: a multiple of the time of its tests without it, and a constant in seconds."""
GLANCE_S = 0.02
TESTS_FAILED = 1
"""The exit status of pytest where tests ran and some failed."""

Outcome = Literal["killed", "out of time", "survived"]


@dataclass(frozen=True)
class Mutant:
    """One mistake, and the test that must notice it."""

    name: str
    """The promise that it breaks, in a few words."""
    file: str
    old: str
    new: str
    test: str
    """As pytest names it: `tests/core/test_gate.py::test_…`."""

    @property
    def test_file(self) -> str:
        return self.test.partition("::")[0]

    def mutated(self, root: Path) -> str:
        """Return the source with the mistake. Raises ValueError if the text does not occur exactly once, or the result is not Python."""
        source = (root / self.file).read_text(encoding="utf-8")
        if (count := source.count(self.old)) != 1:
            raise ValueError(f"{self.name}: {self.file} has its text {count} times, not once: {self.old!r}")
        text = source.replace(self.old, self.new)
        try:
            compile(text, self.file, "exec")
        except SyntaxError as error:
            raise ValueError(f"{self.name}: {error}") from None
        return text


@dataclass(frozen=True)
class Report:
    """The outcome of one mutant."""

    mutant: Mutant
    outcome: Outcome
    seconds: float


def read(folder: Path) -> list[Mutant]:
    """Return the mutants of a folder, those of one test file together. Raises ValueError if two have one name."""
    mutants = [mutant for path in sorted(folder.glob("*.yaml")) for mutant in read_file(path)]
    names = [mutant.name for mutant in mutants]
    if double := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"Several mutants are called {double[0]!r}.")
    return sorted(mutants, key=lambda mutant: (mutant.test_file, mutant.name))


def read_file(path: Path) -> list[Mutant]:
    """Return the mutants of a file."""
    return [Mutant(**row) for row in yaml.safe_load(path.read_text(encoding="utf-8"))]


def of_day(mutants: Sequence[Mutant], day: int) -> list[Mutant]:
    """Return the dozen mutants of a day, neighbours in the list, so that each has its turn and few test files are loaded."""
    start = day * DOZEN % len(mutants)
    return [*mutants, *mutants][start : start + min(DOZEN, len(mutants))]


def judge(mutants: Sequence[Mutant], root: Path, jobs: int) -> Iterator[Report]:
    """Yield the outcome of each mutant, as it comes. Raises RuntimeError if a test fails without any mutant."""
    groups: defaultdict[str, list[Mutant]] = defaultdict(list)
    for mutant in mutants:
        groups[mutant.test_file].append(mutant)
    largest_first = sorted(groups.values(), key=len, reverse=True)
    context = multiprocessing.get_context("fork")
    work: SimpleQueue[int | None] = context.SimpleQueue()
    results: SimpleQueue[Report | str | None] = context.SimpleQueue()
    workers = [
        context.Process(target=_work, args=(largest_first, root, work, results))
        for _ in range(min(jobs, len(largest_first)))
    ]
    for worker in workers:
        worker.start()
    for number in [*range(len(largest_first)), *[None] * len(workers)]:
        work.put(number)  # numbers fit into the pipe, so that this ends before anybody reads
    problems, at_work = [], len(workers)
    while at_work:
        result = results.get()
        if result is None:
            at_work -= 1
        elif isinstance(result, str):
            problems.append(result)
        else:
            yield result
    for worker in workers:
        worker.join()
        if worker.exitcode:
            problems.append(f"A process that judges ended with status {worker.exitcode}; what it said stands above.")
    if problems:
        raise RuntimeError("\n".join(problems))


def _work(
    groups: Sequence[Sequence[Mutant]],
    root: Path,
    work: "SimpleQueue[int | None]",
    results: "SimpleQueue[Report | str | None]",
) -> None:
    """Judge one group of mutants after the other."""
    try:
        while (number := work.get()) is not None:
            with tempfile.TemporaryDirectory(prefix="ratchet-mutants-") as folder:
                try:
                    for report in _judge_group(groups[number], root, Path(folder)):
                        results.put(report)
                except (RuntimeError, ValueError) as error:
                    results.put(str(error))
    finally:
        results.put(None)


def _judge_group(group: Sequence[Mutant], root: Path, folder: Path) -> Iterator[Report]:
    """Yield the outcome of mutants whose tests are in one file."""
    tree, log = folder / "tree", folder / "log"
    copy_tree(root, tree)
    start = time.monotonic()
    status = _status_of_tests(tree, sorted({mutant.test for mutant in group}), log, None)
    if status:
        raise RuntimeError(
            f"{group[0].test_file} fails without any mutant (status {status}):\n{log.read_text()[-3000:]}"
        )
    patience = TIMES * (time.monotonic() - start) + PATIENCE_S
    for number, mutant in enumerate(group, 1):
        with _planted(mutant, tree, number):
            start = time.monotonic()
            status = _status_of_tests(tree, [mutant.test], log, patience)
        if status not in (0, TESTS_FAILED, None):
            raise RuntimeError(f"{mutant.name}: pytest ended with status {status}:\n{log.read_text()[-3000:]}")
        outcomes: dict[int | None, Outcome] = {0: "survived", TESTS_FAILED: "killed", None: "out of time"}
        yield Report(mutant, outcomes[status], time.monotonic() - start)


def copy_tree(root: Path, tree: Path) -> None:
    """Copy what git knows or would take, not what it ignores."""
    listed = subprocess.check_output(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=root, text=True
    )
    for name in filter(None, listed.split("\0")):
        if (root / name).is_file():  # not one that was deleted and is still in git's index
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, tree / name)


@contextlib.contextmanager
def _planted(mutant: Mutant, tree: Path, number: int) -> Iterator[None]:
    """Have the mistake in the tree for a while. Each has a time of its own, by which Python knows compiled code of another."""
    path = tree / mutant.file
    source, stat = path.read_bytes(), path.stat()
    path.write_text(mutant.mutated(tree), encoding="utf-8")
    os.utime(path, (stat.st_atime, stat.st_mtime + 10 * number))
    try:
        yield
    finally:
        path.write_bytes(source)
        os.utime(path, (stat.st_atime, stat.st_mtime))


def _status_of_tests(tree: Path, tests: Sequence[str], log: Path, patience_s: float | None) -> int | None:
    """Run tests in a child of this process and return pytest's exit status; None if it was out of patience."""
    child = os.fork()
    if child == 0:
        _be_pytest(tree, tests, log)
    deadline = time.monotonic() + patience_s if patience_s else float("inf")
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() > deadline:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return None
        time.sleep(GLANCE_S)
    return os.waitstatus_to_exitcode(ended[1])


def _be_pytest(tree: Path, tests: Sequence[str], log: Path) -> None:
    """Become the process of some tests; never returns."""
    status = 70
    try:
        os.setsid()
        os.chdir(tree)
        sys.path.insert(0, str(tree))
        os.environ["PYTHONPATH"] = str(tree)
        os.environ.pop("PYTEST_CURRENT_TEST", None)
        with log.open("wb") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        import pytest

        options = ["-x", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", "--basetemp", str(tree.with_name("tmp"))]
        options += ["-W", "ignore:Module already imported so cannot be rewritten:pytest.PytestAssertRewriteWarning"]
        status = int(pytest.main([*options, *tests]))
    except Exception:  # pytest itself broke: its reason goes to the log, and the judge raises it with that log
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


@contextlib.contextmanager
def libraries() -> Iterator[None]:
    """Import what takes long, in the environment of tests, and nothing of this project."""
    os.environ |= QUIET
    sys.path[:] = [str(ROOT), *(path for path in sys.path if Path(path).resolve() != Path(__file__).resolve().parent)]
    conftest = runpy.run_path(str(ROOT / "tests/conftest.py"))
    for name in LIBRARIES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
        del sys.modules[name]
    gc.freeze()
    try:
        yield
    finally:
        conftest["pytest_unconfigure"]()


def main() -> int:
    """Judge the chosen mutants, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="only mutants whose name, file or test has one of these")
    parser.add_argument("--today", action="store_true", help=f"only the {DOZEN} of this day")
    parser.add_argument("--jobs", type=int, default=min(8, len(os.sched_getaffinity(0))), help="processes at a time")
    options = parser.parse_args()
    mutants = read(ROOT / FOLDER)
    for mutant in mutants:
        mutant.mutated(ROOT)
    if options.today:
        mutants = of_day(mutants, datetime.datetime.now(datetime.UTC).date().toordinal())
    if options.words:
        mutants = [m for m in mutants if any(word in f"{m.name} {m.file} {m.test}" for word in options.words)]
    with libraries():
        reports, problem = [], ""
        try:
            for report in judge(mutants, ROOT, options.jobs):
                reports.append(report)
                print(f"{report.outcome:12}{report.seconds:6.1f} s  {report.mutant.name}", flush=True)
        except RuntimeError as error:
            problem = str(error)
    survivors = [report.mutant for report in reports if report.outcome == "survived"]
    for mutant in survivors:
        print(f"\n{mutant.name}\n  {mutant.file}: {mutant.old!r} → {mutant.new!r}\n  not noticed by {mutant.test}")
    late = sum(report.outcome == "out of time" for report in reports)
    print(
        f"\n{len(reports)} mutants: {len(reports) - len(survivors)} killed ({late} of them out of time), {len(survivors)} survived."
    )
    if problem:
        print(f"\n{problem}")
    return bool(survivors or problem)


if __name__ == "__main__":
    sys.exit(main())
