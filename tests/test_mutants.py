"""Planted mistakes stand where the source is, and are judged by the test that each names."""

import ast
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from benchmarks import mutants
from benchmarks.mutants import DOZEN, Mutant

ROOT = Path(__file__).resolve().parents[1]
MUTANTS = mutants.read(ROOT / mutants.FOLDER)


def test_there_are_enough_of_every_kind():
    files = {path.stem: len(mutants.read_file(path)) for path in (ROOT / mutants.FOLDER).glob("*.yaml")}
    assert sum(files.values()) == len(MUTANTS) >= 150
    assert files.keys() >= {
        "gate", "leaks", "lock", "objectives", "optimizers", "packing", "refine", "sandbox", "selectors", "splits", "spool", "statistics",
    }  # fmt: skip


@pytest.mark.parametrize("file", sorted({mutant.file for mutant in MUTANTS}))
def test_the_text_of_each_is_in_the_source_once_and_what_comes_of_it_is_python(file):
    for mutant in MUTANTS:
        if mutant.file == file:
            assert mutant.mutated(ROOT) != (ROOT / file).read_text(), mutant.name


@pytest.mark.parametrize("file", sorted({mutant.test_file for mutant in MUTANTS}))
def test_the_test_that_each_names_is_there(file):
    functions = {
        node.name for node in ast.walk(ast.parse((ROOT / file).read_text())) if isinstance(node, ast.FunctionDef)
    }
    names = {mutant.test.partition("::")[2].partition("[")[0] for mutant in MUTANTS if mutant.test_file == file}
    assert names - functions == set()


def test_a_dozen_a_day_comes_round_to_all_of_them():
    days = [mutants.of_day(MUTANTS, day) for day in range(740_000, 740_000 + len(MUTANTS))]
    assert {len(day) for day in days} == {DOZEN}
    assert Counter(mutant.name for day in days for mutant in day).keys() == {mutant.name for mutant in MUTANTS}
    assert len(mutants.of_day(MUTANTS[:5], 3)) == 5


# --- judging --------------------------------------------------------------------------------------------------------------

SOURCE = "def total(values):\n    result = 0\n    for value in values:\n        result += value\n    return result\n"
TEST = "import sums\n\n\ndef test_a_total():\n    assert sums.total([1, 2]) == 3\n\n\ndef test_nothing():\n    assert sums.total([]) == 0\n"


def mistake(old, new, test="test_a_total", file="sums.py"):
    return Mutant(f"{old} → {new}", file, old, new, f"test_sums.py::{test}")


@pytest.fixture
def project(tmp_path):
    """A project of one module and its tests, under git."""
    root = tmp_path / "project"
    root.mkdir()
    (root / "sums.py").write_text(SOURCE)
    (root / "test_sums.py").write_text(TEST)
    (root / "pyproject.toml").write_text('[tool.pytest.ini_options]\npythonpath = ["."]\n')
    (root / ".gitignore").write_text("/large.bin\n")
    (root / "large.bin").write_text("not copied")
    subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)
    return root


def test_a_mistake_that_its_test_notices_is_killed_and_one_that_it_does_not_notice_survives(project):
    planted = [
        mistake("result += value", "result = value"),
        mistake("result += value", "result = value", "test_nothing"),
        mistake("result = 0", "result = 1", "test_nothing"),
        mistake("return result", "return values"),
    ]
    reports = {report.mutant: report.outcome for report in mutants.judge(planted, project, jobs=2)}
    assert [reports[mutant] for mutant in planted] == ["killed", "survived", "killed", "killed"]
    assert (project / "sums.py").read_text() == SOURCE
    assert not list(project.rglob("*.pyc"))


def test_one_that_never_ends_is_killed_by_the_clock(project, monkeypatch):
    monkeypatch.setattr(mutants, "PATIENCE_S", 1.0)
    monkeypatch.setattr(mutants, "TIMES", 0)
    (report,) = mutants.judge([mistake("    return result", "    while True: pass")], project, jobs=1)
    assert report.outcome == "out of time"


def test_a_test_that_fails_without_any_mistake_judges_none(project):
    (project / "test_sums.py").write_text(TEST.replace("== 3", "== 4"))
    with pytest.raises(RuntimeError, match=r"test_sums\.py fails without any mutant"):
        list(mutants.judge([mistake("result = 0", "result = 1")], project, jobs=1))


def test_a_test_that_is_not_there_is_an_error_and_no_kill(project):
    with pytest.raises(RuntimeError, match=r"fails without any mutant"):
        list(mutants.judge([mistake("result = 0", "result = 1", "test_that_was_renamed")], project, jobs=1))


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [("result = 2", "", "0 times"), ("result", "", "times, not once"), ("return result", "return (", "never closed")],
)
def test_a_text_that_is_not_in_the_source_once_is_an_error(project, old, new, problem):
    with pytest.raises(ValueError, match=problem):
        mistake(old, new).mutated(project)


def test_a_copy_has_what_git_would_take_and_nothing_else(project, tmp_path):
    mutants.copy_tree(project, tmp_path / "copy")
    assert {path.name for path in (tmp_path / "copy").iterdir()} == {
        ".gitignore", "pyproject.toml", "sums.py", "test_sums.py",
    }  # fmt: skip
