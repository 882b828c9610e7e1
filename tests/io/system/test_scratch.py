"""Temporary folders go with their process, and those of killed ones with the next."""

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from tasks.io.system import files, scratch

ROOT = Path(__file__).resolve().parents[3]
HELD = """
import os, signal, sys, tempfile
from tasks.io.system import scratch
tempfile.tempdir = sys.argv[1]
with scratch.folder("part") as folder:
    (folder / "rows").write_text("half of them")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_goes_with_the_next_of_its_kind(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    done = subprocess.run([sys.executable, "-c", HELD, str(tmp_path)], cwd=ROOT, check=False)
    (killed,) = tmp_path.iterdir()
    assert (done.returncode, (killed / "rows").read_text()) == (-signal.SIGKILL, "half of them")
    in_use = tmp_path / "ratchet-part-in-use"
    in_use.mkdir()
    with files.locked(in_use / scratch.LOCK):
        with scratch.folder("trial") as other:
            assert {*tmp_path.iterdir()} == {killed, in_use, other}
        with scratch.folder("part") as own:
            assert {*tmp_path.iterdir()} == {in_use, own}
    assert {*tmp_path.iterdir()} == {in_use}
