"""Every benchmark says what it measures when it is asked for help, and does nothing else; what some of them share."""

import os
import runpy
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"
SCRIPTS = [path for path in sorted(FOLDER.glob("*.py")) if '__name__ == "__main__"' in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_help_is_printed_and_nothing_is_measured(script, tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(FOLDER)  # as Python does for a script
    monkeypatch.setattr(sys, "argv", [str(script), "-h"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(script), run_name="__main__")
    assert not end.value.code
    said = capsys.readouterr().out
    assert said.startswith(f"usage: {script.name}")
    assert len(said.splitlines()) > 4, "what it measures"
    assert list(tmp_path.iterdir()) == []


def test_there_are_scripts():
    assert len(SCRIPTS) > 20


@pytest.mark.parametrize(
    ("said", "only", "altered", "expected"),
    [
        ("", "", "model/a.json", "accepts"),
        ("a.json differs", "", "model/a.json", "names it"),
        ("something differs", "", "model/a.json", "refuses"),
        ("something differs", "", "", "refuses"),
        ("a.json differs", "b.json", "model/a.json", ""),
        ("b.json is no JSON", "b.json", "b.json", "names it"),
    ],
)
def test_what_a_tool_says_of_altered_evidence_is_told_in_words(said, only, altered, expected, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(FOLDER)
    import evidence

    assert evidence.cell(lambda *_: said, only, tmp_path, tmp_path, altered) == expected


def test_a_seed_on_a_node_does_not_use_the_cluster_whose_nodes_may_all_be_at_seeds(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.setenv("RATCHET_RAY", "127.0.0.1:1")
    import side_by_side

    assert side_by_side._Alone(lambda seed: (seed, os.environ.get("RATCHET_RAY")))(3) == (3, None)


def test_evidence_is_altered_one_file_at_a_time_and_what_shares_its_bytes_is_not(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(FOLDER)
    import evidence

    (tmp_path / "one").mkdir()
    (tmp_path / "one/a.json").write_text("{}")
    (tmp_path / "two").hardlink_to(tmp_path / "one/a.json")
    names = [(name, change) for name, change, _ in evidence.alterations(tmp_path / "one")]
    assert names == [("", ""), ("a.json", "a byte more"), ("a.json", "removed"), (evidence.ADDED, "added")]
    evidence.append(tmp_path / "one/a.json")
    assert ((tmp_path / "one/a.json").read_text(), (tmp_path / "two").read_text()) == ("{} ", "{}")
