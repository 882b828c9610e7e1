"""Every benchmark says what it measures when it is asked for help, and does nothing else."""

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
