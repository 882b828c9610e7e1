"""The files that a stage on another machine is given, and a channel whose cluster is lost."""

import io
import socket
from pathlib import Path

import pytest

from flows.execution.elsewhere import far_side, frames, job, over_ray
from flows.execution.elsewhere.hosts import Host
from flows.execution.elsewhere.job import Job
from tasks.core import environment
from tests.flows.execution.elsewhere.conftest import of_git


@pytest.fixture
def folder(tmp_path, monkeypatch):
    made = of_git(tmp_path / "workspace")
    monkeypatch.chdir(made)
    return made


def test_files_of_secrets_stay_here(folder, monkeypatch):
    for name in (".env", ".env.team", "team.pem", "notes.md"):
        (folder / name).write_text("PASSWORD=hunter2hunter2")
    monkeypatch.setenv(environment.SIGNING_KEY, "team.pem")
    given = {file["path"] for file in job._files(Job("one", ["true"], [], ["out.txt"], []))}
    assert "notes.md" in given
    assert not given & {".env", ".env.team", "team.pem"}


def test_files_of_secrets_stay_here_by_whatever_name_they_are_found(folder, tmp_path, monkeypatch):
    (folder / "app").mkdir()
    for name in (".env", "app/.env", "app/.env.team", "team.pem", "app/notes.md"):
        (folder / name).write_text("PASSWORD=hunter2hunter2")
    (tmp_path / ".env").write_text("PASSWORD=hunter2hunter2")
    for link, target in {"settings": ".env", "beside": "../.env", "key": "team.pem", "notes": "app/notes.md"}.items():
        (folder / link).symlink_to(target)
    (tmp_path / "home").symlink_to(folder)
    monkeypatch.setenv(environment.SIGNING_KEY, str(tmp_path / "home/team.pem"))
    given = {file["path"] for file in job._files(Job("one", ["true"], [], ["out.txt"], []))}
    assert given == {".gitignore", "in.txt", "tool", "app/notes.md", "notes"}


@pytest.mark.parametrize("name", [".env", ".env.team", "key"])
def test_a_file_of_secrets_among_the_inputs_is_told_and_nothing_is_sent(folder, name):
    (folder / "raw/app").mkdir(parents=True)
    with (folder / ".gitignore").open("a") as ignored:
        ignored.write("/raw\n.ratchet\n")
    (folder / "raw/app/notes.md").write_text("notes")
    (folder / ".ratchet/keys").mkdir(parents=True)
    (folder / ".ratchet/keys/evidence.pem").write_text("PRIVATE KEY")
    one = Job("one", ["true"], ["raw"], ["out.txt"], [])
    assert {file["path"] for file in job._files(one)} == {".gitignore", "in.txt", "tool", "raw/app/notes.md"}
    (folder / "raw/app" / name).symlink_to("../../.ratchet/keys/evidence.pem")
    with pytest.raises(ValueError, match=rf"^one: raw/app/{name} is a file of secrets, and would be sent as an input"):
        job._files(one)


def test_an_output_that_another_stage_is_writing_stays_here(folder):
    """It grows while it is sent, and goes before."""
    (folder / "one.txt.partial").write_text("half of it")
    (folder / "two.partial").mkdir()
    (folder / "two.partial/part").write_text("half of it")
    given = {file["path"] for file in job._files(Job("one", ["true"], [], ["out.txt"], ["one.txt", "two"]))}
    assert given == {".gitignore", "in.txt", "tool"}


def test_a_file_that_a_stage_beside_is_receiving_is_not_missed(tmp_path, monkeypatch):
    (tmp_path / "00").mkdir()
    kept = tmp_path / "00/kept"
    kept.touch()
    monkeypatch.setattr(far_side, "FORGET_S", -1.0)
    monkeypatch.setattr(Path, "glob", lambda *_: iter([tmp_path / "00/received.partial", kept]))
    far_side._forget(tmp_path)
    assert not kept.exists(), "what stands behind it is looked at too"


def test_folders_that_hold_nothing_have_one_order_whatever_the_disk_says(monkeypatch):
    walked = [("in", ["b", "a"], []), ("in/b", [], []), ("in/a", [], [])]
    monkeypatch.setattr(far_side.os, "walk", lambda _: walked)
    assert far_side.empty_folders(Path(), ["in"]) == [Path("in/a"), Path("in/b")]


def test_what_a_shell_prints_before_the_far_side_begins_is_skipped():
    sent = io.BytesIO()
    frames.Link(io.BytesIO(), sent).open()
    link = frames.Link(io.BytesIO(b"Welcome!\n$ " + sent.getvalue() + b'{"kind": "facts"}\n'), io.BytesIO())
    link.wait_until_open()
    assert link.receive() == {"kind": "facts"}
    with pytest.raises(frames.Gone):
        frames.Link(io.BytesIO(b"Welcome!\n"), io.BytesIO()).wait_until_open()


class LostCluster:
    """A task whose cluster is no longer there."""

    def check(self):
        raise RuntimeError("The Ray cluster 10.0.0.1:6379 is lost (refused). What was done is kept.")

    def is_over(self, within_s=0.0):
        return False


def test_a_cluster_that_is_lost_closes_the_channel_and_says_so():
    here, there = socket.socketpair()
    there.sendall(b"10.0.0.2\n")
    node = over_ray.RayNode(Host(ray="auto"), here, LostCluster())
    node.close_if_lost()
    assert there.recv(1) == b""
    assert node.end() == (1, "The Ray cluster 10.0.0.1:6379 is lost (refused). What was done is kept")
    there.close()
