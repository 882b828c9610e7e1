"""What is installed is what is here: `flows` and `tasks`, and a version that everybody agrees on."""

import importlib
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.mark.parametrize("name", ["flows", "tasks"])
def test_packages_are_imported_from_this_repository(name):
    # `tasks` is a common name: another distribution that brings one would shadow ours.
    assert Path(importlib.import_module(name).__file__).resolve() == ROOT / name / "__init__.py"


def test_the_wheel_holds_both_packages():
    assert PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == ["flows", "tasks"]


@pytest.mark.parametrize("package", ["flows", "tasks"])
def test_every_folder_of_code_is_a_package(package):
    bare = {path.parent for path in (ROOT / package).rglob("*.py")} - {
        path.parent for path in (ROOT / package).rglob("__init__.py")
    }
    assert bare == set()


def test_the_command_is_there():
    module, function = PROJECT["project"]["scripts"]["ratchet"].split(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_the_distribution_has_its_name_and_licence():
    assert PROJECT["project"]["name"] == "ratchet-llm"
    assert PROJECT["project"]["license"] == "Apache-2.0"
    assert (ROOT / "LICENSE").read_text().lstrip().startswith("Apache License")


def test_make_clean_keeps_of_the_scratch_what_nothing_makes_anew(tmp_path):
    shutil.copyfile(ROOT / "Makefile", tmp_path / "Makefile")
    kept = ("keys/evidence.pem", "spool/run.jsonl", "nights.jsonl", "monitor/basis.json", "prefect/prefect.db")
    for name in (*kept, "work/checkpoint", "cache/answers"):
        file = tmp_path / ".ratchet" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    subprocess.run(["make", "clean"], cwd=tmp_path, check=True, capture_output=True)
    scratch = tmp_path / ".ratchet"
    assert {str(file.relative_to(scratch)) for file in scratch.rglob("*") if file.is_file()} == {*kept}
