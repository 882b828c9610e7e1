"""A digest follows from content, a closure from imports, and the machine's class from what changes last digits."""

import hashlib
import json
import os
import platform
from pathlib import Path

import pytest

from tasks.io import provenance

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _no_memory():
    """Digests of earlier tests are forgotten."""
    provenance._known.cache_clear()
    yield
    provenance._known.cache_clear()


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_files_digest_is_its_sha256(tmp_path):
    file = write(tmp_path / "a", "text")
    assert provenance.digest(file) == hashlib.sha256(b"text").hexdigest()


def test_a_folders_digest_follows_from_names_and_contents_and_nothing_else(tmp_path):
    for name in ("one", "two"):
        write(tmp_path / name / "sub" / "b", "b")
        write(tmp_path / name / "a", "a")
    os.utime(tmp_path / "two" / "a", (1, 1))
    write(tmp_path / "two" / "__pycache__" / "a.pyc", "left by Python")
    assert provenance.digest(tmp_path / "one") == provenance.digest(tmp_path / "two")


@pytest.mark.parametrize("change", ["content", "name", "more"])
def test_a_change_changes_the_digest(tmp_path, change):
    file = write(tmp_path / "d" / "a", "text")
    before = provenance.digest(tmp_path / "d")
    match change:
        case "content":
            file.write_text("texts")
        case "name":
            file.rename(file.with_name("b"))
        case "more":
            write(tmp_path / "d" / "b", "")
    assert provenance.digest(tmp_path / "d") != before


def test_a_file_that_did_not_move_is_not_read_twice_even_by_the_next_process(tmp_path):
    file = write(tmp_path / "a", "text")
    digest = provenance.digest(file)
    provenance.save_digests()
    provenance._known.cache_clear()
    assert json.loads(provenance.DIGESTS.read_text())[str(file)][3] == digest
    stat = file.stat()
    file.write_text("TEXT")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # nothing tells the two apart but the content
    assert provenance.digest(file) == digest
    os.utime(file)
    assert provenance.digest(file) == hashlib.sha256(b"TEXT").hexdigest()


def test_remembered_digests_that_cannot_be_read_are_made_anew(tmp_path):
    write(tmp_path / provenance.DIGESTS, '{"half')
    file = write(tmp_path / "a", "text")
    assert provenance.digest(file) == hashlib.sha256(b"text").hexdigest()


def test_a_closure_holds_imports_of_imports_and_those_inside_functions(tmp_path):
    write(tmp_path / "tasks" / "__init__.py", "")
    write(tmp_path / "tasks" / "a.py", "import os\nfrom tasks import b\n")
    write(tmp_path / "tasks" / "b.py", "def f():\n    from tasks.deep.c import g\n    return g\n")
    write(tmp_path / "tasks" / "deep" / "__init__.py", "import tasks.d\n")
    write(tmp_path / "tasks" / "deep" / "c.py", "import numpy\nimport tasks.a\n")
    write(tmp_path / "tasks" / "d.py", "")
    write(tmp_path / "tasks" / "alone.py", "")
    files = [path.as_posix() for path in provenance.closure("tasks.a")]
    assert files == [
        "tasks/__init__.py",
        "tasks/a.py",
        "tasks/b.py",
        "tasks/d.py",
        "tasks/deep/__init__.py",
        "tasks/deep/c.py",
    ]


def test_code_digests_differ_where_a_file_differs(tmp_path):
    files = [write(tmp_path / name, name) for name in ("a.py", "b.py")]
    before = provenance.code_digest(files)
    assert provenance.code_digest(files) == before
    files[1].write_text("changed")
    assert provenance.code_digest(files) != before


def test_the_machines_class_names_versions_and_no_machine():
    facts = provenance.machine_class()
    assert facts["python"] == platform.python_version()
    assert set(provenance.PACKAGES) < set(facts)
    assert platform.machine() in facts["processor"]
    assert platform.node() not in " ".join(facts.values())
    assert "/" not in " ".join(facts.values())


def test_facts_in_another_order_are_the_same_facts():
    assert provenance.facts_digest({"a": "1", "b": "2"}) == provenance.facts_digest({"b": "2", "a": "1"})
    assert provenance.facts_digest({"a": "1"}) != provenance.facts_digest({"a": "2"})
