"""When a server of stages is stale, and what its client and its children import."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tasks.forkserver import protocol
from tests.runner import ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a fork server needs Linux")


def test_code_and_packages_are_part_of_what_makes_a_server_stale(tmp_path, monkeypatch):
    (tmp_path / "code").mkdir()
    (tmp_path / "code/stage.py").write_text("x = 1")
    monkeypatch.setattr(protocol, "CODE", tmp_path / "code")
    monkeypatch.setattr(protocol.sysconfig, "get_path", lambda _: str(tmp_path / "packages"))
    seen = {protocol.fingerprint({})}
    for change in (
        lambda: (tmp_path / "code/stage.py").write_text("x = 22"),
        lambda: (tmp_path / "code/other.py").write_text(""),
        lambda: (tmp_path / "packages").mkdir(),
        lambda: (tmp_path / "packages/torch").mkdir(),
    ):
        time.sleep(0.01)
        change()
        seen.add(protocol.fingerprint({}))
    assert len(seen) == 5
    assert protocol.fingerprint({"RATCHET_PROGRESS_S": "1"}) == protocol.fingerprint({"DVC_ROOT": "b"})


def test_an_environment_is_the_same_by_every_name_of_its_interpreter_and_another_one_is_not():
    code = "from tasks.forkserver import protocol; print(protocol.fingerprint({}))"
    folder = Path(sys.prefix) / "bin"
    by_name = [subprocess.check_output([folder / name, "-c", code], cwd=ROOT) for name in ("python", "python3")]
    assert by_name[0] == by_name[1]
    changed = f"import sys; sys.prefix = '/elsewhere'; {code}"
    assert subprocess.check_output([folder / "python", "-c", changed], cwd=ROOT) != by_name[0]


def test_what_no_stage_needs_is_not_imported_and_can_be():
    program = (
        "import importlib, sys\n"
        "from tasks.forkserver import libraries, server\n"
        "for name in server.MODULES: importlib.import_module(name)\n"
        "print(*{'pandas', *libraries.OPTIONAL} & sys.modules.keys())\n"
        "for name in libraries.OPTIONAL: importlib.import_module(name)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "\n"), done.stderr


def test_the_client_needs_the_standard_library_alone():
    program = (
        "import sys; import tasks.forkserver.client; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {program}"],
        capture_output=True,
        text=True,
        check=True,
    )
    others = set(done.stdout.split()) - set(sys.stdlib_module_names) - {"tasks", "__main__"}
    assert not {name for name in others if not name.startswith(("_", "sitecustomize"))}, others
