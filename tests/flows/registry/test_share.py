"""Outputs that are handed over: a remote that takes nothing is told with what would do."""

import fcntl
import os

import pytest

from flows.registry import share


def test_a_remote_that_refuses_is_one_message_and_the_next_try_goes_on(done):
    place = done.folder.parent / "store"
    place.write_text("a file where a folder should be")
    said = done.run("flows.commands", "share", "--to", str(place / "ratchet"))
    assert said.returncode == 1
    assert said.stderr.count("`dvc push --run-cache` failed; the lines above say why. What was uploaded is kept") == 1
    assert "dvc remote modify --local" in said.stderr
    assert "Traceback" not in said.stderr
    place.unlink()
    decisions = [f"data/review_{of}.jsonl" for of in ("decisions", "records", "items")]
    for name in decisions:
        done.path(name).parent.mkdir(exist_ok=True)
        done.path(name).touch()
    pushed = done.ratchet("share", "--to", str(place / "ratchet"))
    assert "Pushed." in pushed
    (carried,) = [line.split() for line in pushed.splitlines() if "git add" in line]
    assert {*decisions} < {*carried}, "without them the other machine would make what reads them anew"
    assert any((place / "ratchet").rglob("*"))


def test_a_workspace_in_which_a_run_works_is_not_shared(done, tmp_path):
    """The run may write dvc.lock and outputs after they were looked at, and then its MLflow runs are not those that go along."""
    done.path(".ratchet/locks").mkdir(parents=True, exist_ok=True)
    with done.path(".ratchet/locks/flow.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write(f"{os.getppid()} host boot")
        lock.flush()
        with pytest.raises(RuntimeError, match="works in this workspace"):
            share.share_workspace(str(tmp_path / "store"))
    assert not (tmp_path / "store").exists()
