"""Names of files are of any bytes, and git lists them as they are."""

import os
import subprocess
from pathlib import Path

import pytest

from tasks.io.system import git

NAMES = [Path(os.fsdecode(name)) for name in (b"caf\xe9.txt", b"a\nb", "\u00fc.txt".encode())]


@pytest.fixture
def repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    subprocess.run(["git", "init", "--quiet"], check=True)
    for name in NAMES:
        name.touch()


@pytest.mark.usefixtures("repository")
def test_names_in_other_encodings_are_listed():
    assert {*git.untracked(Path())} == {*git.workspace_files()} == {*NAMES}
    subprocess.run(["git", "add", "--all"], check=True)
    assert {*git.names("diff", "--cached", "--name-only")} == {*map(str, NAMES)}
    assert git.untracked(Path()) == []
