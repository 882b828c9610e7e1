"""A backup of a workspace, and what is back on a machine that has nothing but a clone."""

import json
import os
import shutil
import sqlite3
import subprocess
import zipfile
from pathlib import Path

import pytest

from flows.execution import workspace_lease
from flows.execution.dvc import forecast
from flows.registry import history, verification, versions
from flows.registry.backup import archive, contents, restoring, writing
from tasks.io.system import git
from tasks.runner import WORK

pytestmark = [
    pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning"),  # in dvc itself
]

UNFINISHED = WORK / "tune@r0"
"""What a killed training left."""
MANIFEST = {
    "version": 1, "time": "2026-11-28T12:00:00Z", "folder": "/x", "commit": "none", "branch": "", "commits": None, "packages": {},
    "with_outputs": True, "outputs": [], "databases": [], "files": [], "links": {}, "removed": [],
}  # fmt: skip


def shell(folder, *command):
    person = [f"GIT_{who}_{what}=a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")]
    return subprocess.run(["env", *person, *command], cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def used(done, promoted, monkeypatch):
    """A workspace with a remote, a commit that this has and one that it lacks, a promoted model, MLflow runs, and files of its user."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    monkeypatch.setenv("PREFECT_HOME", str(done.path(".ratchet/prefect")))
    for name in ("models/versions", "models/champion", "data/promotions.jsonl"):
        target = done.path(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        if (promoted / name).is_symlink():
            target.symlink_to((promoted / name).readlink())
        elif (promoted / name).is_dir():
            shutil.copytree(promoted / name, target, symlinks=True)
        else:
            shutil.copyfile(promoted / name, target)
    done.path(".gitignore").write_text(
        "/.ratchet/\n/mlflow.db*\n/mlruns/\n/models/\n/data/raw/\n/*.txt\n!/in.txt\n!/notes.txt\n"
    )
    for name, text in {
        "notes.txt": "first\n", "gone.py": "", "data/raw/rows.jsonl": "{}\n", "mlruns/1/7/artifacts/report.md": "# r0\n",
        ".ratchet/nights.jsonl": "{}\n", ".ratchet/spool/7.jsonl": "{}\n", f"{UNFINISHED}/step": "4",
        ".ratchet/cache/ingest/shard": "made anew", ".ratchet/keys/evidence.pem": "PRIVATE", ".dvc/config.local": "[core]\n",
    }.items():  # fmt: skip
        done.path(name).parent.mkdir(parents=True, exist_ok=True)
        done.path(name).write_text(text)
    with sqlite3.connect(done.path("mlflow.db")) as store:
        store.execute("UPDATE experiments SET artifact_location = ?", (f"{done.folder}/mlruns/1",))
    store.close()
    shell(done.folder, "git", "add", "--all")
    shell(done.folder, "git", "commit", "--quiet", "--message", "One")
    shell(done.folder, "git", "clone", "--quiet", "--bare", ".", str(done.folder.parent / "origin"))
    shell(done.folder, "git", "remote", "add", "origin", str(done.folder.parent / "origin"))
    shell(done.folder, "git", "fetch", "--quiet", "origin")
    done.path("code.py").chmod(0o755)
    shell(done.folder, "git", "commit", "--quiet", "--all", "--message", "Two, which no remote has")
    done.path("notes.txt").write_text("second, of no commit\n")
    done.path("gone.py").unlink()
    return done


@pytest.fixture
def clone(used, tmp_path, monkeypatch):
    """What another machine has: a clone, and this process in it."""
    folder = tmp_path / "elsewhere" / "clone"
    shell(tmp_path, "git", "clone", "--quiet", str(used.folder.parent / "origin"), str(folder))
    return folder


def restored(backup, clone, monkeypatch):
    """Restore as a person would: read the message, do what it says, and restore again."""
    monkeypatch.chdir(clone)
    with pytest.raises(ValueError, match="The backup belongs to commit") as told:
        restoring.restore(backup)
    command = str(told.value).partition("git checkout ")[2].partition(",")[0]
    shell(clone, "git", "checkout", "--quiet", *command.split())
    restoring.restore(backup)


def test_nobody_else_reads_a_backup_in_a_folder_that_others_read(used, tmp_path):
    backup = tmp_path / "shared"
    backup.mkdir(mode=0o755)
    writing.back_up(backup, keys=True)
    assert {file.stat().st_mode & 0o777 for file in backup.rglob("*") if file.is_file()} == {0o600}


@pytest.mark.parametrize("place", ["backups", "today.zip"])
def test_all_that_git_lacks_is_back_on_an_empty_machine(place, used, clone, tmp_path, monkeypatch, capsys):
    backup = tmp_path / place
    tree = shell(used.folder, "git", "commit-tree", "HEAD^{tree}", "-m", "Three").strip()
    shell(used.folder, "git", "branch", "experiment", tree)
    writing.back_up(backup)
    told = capsys.readouterr().out
    assert (
        "Left out, since they hold secrets (--keys takes them along): .dvc/config.local, .ratchet/keys/evidence.pem"
        in told
    )
    assert "Not in it: commits of experiment, which no remote has." in told
    assert "On another machine: git clone …; and there" in told, "no remote has the commit"
    was, last = git.commit(), history.read().tail
    gone = used.folder.rename(tmp_path / "gone")

    restored(backup, clone, monkeypatch)

    assert git.commit() == was
    assert [check.what for check in verification.check_files() if not check.holds] == []
    assert {step.state for step in forecast.plan()} == {"unchanged"}
    assert (history.read().tail, history.read().champion, versions.linked_champion()) == (last, 1, 1)
    for name in (
        "notes.txt",
        "data/raw/rows.jsonl",
        "mlruns/1/7/artifacts/report.md",
        ".ratchet/nights.jsonl",
        f"{UNFINISHED}/step",
    ):
        assert (clone / name).read_bytes() == (gone / name).read_bytes()
    for name in ("gone.py", ".ratchet/cache", ".ratchet/keys", ".dvc/config.local", ".ratchet/restore"):
        assert not (clone / name).exists(), name
    with sqlite3.connect("mlflow.db") as store:
        assert {place for (place,) in store.execute("SELECT artifact_location FROM experiments")} == {
            f"{clone}/mlruns/1"
        }
    store.close()
    file = next((clone / "models/versions/1/model").glob("*.safetensors"))
    assert (
        file.stat().st_mode & 0o777
        == next((gone / "models/versions/1/model").glob("*.safetensors")).stat().st_mode & 0o777
    )


def test_a_folder_takes_what_it_lacks_and_what_was_broken_off_goes_on(used, clone, tmp_path, monkeypatch):
    backups = tmp_path / "backups"
    with monkeypatch.context() as patch:
        patch.setattr(archive.FolderWriter, "finish", lambda *_: (_ for _ in ()).throw(OSError("the disk has gone")))
        with pytest.raises(OSError, match="the disk has gone"):
            writing.back_up(backups)
    with pytest.raises(ValueError, match=r"no backup: it has no manifest.*goes on"):
        restoring.restore(backups)
    first = writing.back_up(backups, keys=True)
    before = {path: path.stat().st_mtime_ns for path in backups.rglob("*") if path.is_file()}
    used.path("notes.txt").write_text("third\n")
    second = writing.back_up(backups)
    new = {path for path in backups.rglob("*") if path.is_file()} - before.keys()
    assert second in new
    assert len(new) <= 4, "notes, and the databases where they were touched"
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    placed = []

    def broken(entry, path, *arguments, **named):
        if len(placed) == 5:
            raise KeyboardInterrupt
        placed.append(path)
        put(entry, path, *arguments, **named)

    put = restoring._put
    with monkeypatch.context() as patch:
        patch.setattr(restoring, "_put", broken)
        with pytest.raises(KeyboardInterrupt):
            restored(first, clone, monkeypatch)
    restoring.restore(first)
    assert (clone / "notes.txt").read_text() == "second, of no commit\n"
    assert (clone / ".ratchet/keys/evidence.pem").read_text() == "PRIVATE"


def test_a_database_is_copied_as_it_is_while_a_server_writes(used, tmp_path):
    server = sqlite3.connect(used.path("mlflow.db"))
    server.execute("PRAGMA journal_mode=WAL")
    server.execute("UPDATE experiments SET name = 'committed, in the log alone' WHERE experiment_id = 1")
    server.commit()
    server.execute("UPDATE experiments SET name = 'half a transaction' WHERE experiment_id = 1")
    backup = writing.back_up(tmp_path / "now.zip")
    server.close()
    with archive.opened(backup) as (manifest, reader):
        entry = next(entry for entry in manifest.files if entry.path == "mlflow.db")
        archive.extract(reader, entry, tmp_path / "copy.db")
        assert not [entry.path for entry in manifest.files if entry.path.startswith("mlflow.db-")]
    with sqlite3.connect(tmp_path / "copy.db") as copy:
        assert {name for (name,) in copy.execute("SELECT name FROM experiments WHERE experiment_id = 1")} == {
            "committed, in the log alone"
        }
    copy.close()


@pytest.mark.parametrize("place", ["backups", "today.zip"])
def test_what_was_cut_short_or_altered_is_found_and_nothing_is_restored(place, used, clone, tmp_path, monkeypatch):
    path = writing.back_up(tmp_path / place)
    with archive.opened(path) as (manifest, _):
        entry = next(entry for entry in manifest.files if entry.path == "notes.txt")
    file = path if path.suffix == ".zip" else path.parent / "objects" / entry.sha256[:2] / entry.sha256
    whole = file.read_bytes()
    assert restoring.restore(path, dry=True).files

    file.write_bytes(whole.replace(b"second, of no", b"second, of an"))
    with pytest.raises(ValueError, match=r"notes\.txt: its contents are not those that were saved"):
        restoring.restore(path, dry=True)
    with pytest.raises(ValueError, match=r"notes\.txt: its contents are not"):
        restored(path, clone, monkeypatch)
    assert not (clone / "mlflow.db").exists()

    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"truncated|not those that were saved"):
        restoring.restore(path, dry=True)
    if path.suffix == ".json":
        text = path.read_text()
        path.write_text(text.replace("notes.txt", "other.txt"))
        with pytest.raises(ValueError, match="does not have the hash that its name says"):
            restoring.restore(path, dry=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (json.dumps(MANIFEST | {"commits": "0" * 64}), "commits: the backup lacks its contents"),
        ("[" * 200_000, "has no manifest that can be read"),
    ],
)
def test_a_check_finds_commits_that_are_missing_and_a_manifest_without_end(text, message, tmp_path):
    with zipfile.ZipFile(tmp_path / "made.zip", "w") as file:
        file.writestr("manifest.json", text)
    with pytest.raises(ValueError, match=message):
        restoring.restore(tmp_path / "made.zip", dry=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "is a backup of format 2, and this version of Ratchet reads format 1"),
        ({"files": [{"path": "../outside", "sha256": "0" * 64, "size": 1, "mode": 420}]}, r"'\.\./outside' leads out of the workspace"),
        ({"files": [{"path": "/etc/x", "sha256": "0" * 64, "size": 1, "mode": 420}]}, "'/etc/x' leads out of the workspace"),
        ({"files": [{"path": ".git/hooks/x", "sha256": "0" * 64, "size": 1, "mode": 493}]}, r"leads out of the workspace or into \.git"),
        ({"files": [{"path": "x", "sha256": "../../x", "size": 1, "mode": 420}]}, r"'\.\./\.\./x' is no SHA-256"),
        ({"removed": ["../x"]}, r"'\.\./x' leads out"),
        ({"links": {"../x": "y"}}, r"'\.\./x' leads out"),
        ({"files": [{"path": "linked/x", "sha256": "0" * 64, "size": 1, "mode": 420}], "commit": "none"}, "linked/x would be written outside of"),
        ({"more": 1}, "more: Extra inputs are not permitted"),
    ],
)  # fmt: skip
def test_a_manifest_that_leads_elsewhere_or_is_of_another_form_is_refused(change, message, tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "made.zip", "w") as file:
        file.writestr("manifest.json", json.dumps(MANIFEST | change))
    (tmp_path / "here").mkdir()
    (tmp_path / "here/linked").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path / "here")
    shell(tmp_path / "here", "git", "init", "--quiet")
    with pytest.raises(ValueError, match=message):
        restoring.restore(tmp_path / "made.zip")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "made.zip"]


def test_what_is_in_the_way_is_told_and_nothing_is_written(used, clone, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="is inside the workspace, so the backup would be lost with it"):
        writing.back_up(Path("backups"))
    with workspace_lease.acquired():
        assert workspace_lease.is_busy()
    backup = writing.back_up(tmp_path / "today.zip")
    (clone / "data/raw").mkdir(parents=True)
    (clone / "data/raw/rows.jsonl").write_text("mine\n")
    with pytest.raises(
        ValueError,
        match=r"has files of its own, which the backup would replace: data/raw/rows\.jsonl\. Restore in a fresh clone",
    ):
        restored(backup, clone, monkeypatch)
    (clone / "data/raw/rows.jsonl").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 1000))
        with pytest.raises(OSError, match=r"has 0\.00 GB free, and 0\.00 GB are needed"):
            restoring.restore(backup)
        patch.chdir(used.folder)
        with pytest.raises(OSError, match=r"are needed\. Free some space; nothing was written"):
            writing.back_up(tmp_path / "other.zip")
    assert not (clone / "mlflow.db").exists()
    assert not (tmp_path / "other.zip").exists()
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("options", ["", "?timeout=30"])
def test_a_store_outside_is_saved_in_place_of_one_that_lies_here(options, tmp_path, monkeypatch):
    (tmp_path / "workspace").mkdir()
    monkeypatch.chdir(tmp_path / "workspace")
    for file in (Path("mlflow.db"), tmp_path / "runs.db"):
        file.touch()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/runs.db{options}")
    state = contents.Contents()
    assert contents._databases(state)["mlflow.db"] == tmp_path / "runs.db"
    assert state.elsewhere == []


def test_a_store_behind_a_link_is_saved_where_it_can_be_restored(tmp_path, monkeypatch):
    (tmp_path / "workspace/inside").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "workspace")
    for link, target in {"disk": "..", "link": "inside"}.items():
        Path(link).symlink_to(target)
    places = {"disk": "mlflow.db", "link": "inside/runs.db"}
    for link, place in places.items():
        assert contents._place(Path(link, "runs.db").absolute(), "mlflow.db") == place


@pytest.mark.parametrize(("disk", "place"), [("../disk", ".ratchet"), ("disk", "disk")])
def test_runs_that_wait_on_another_disk_are_saved_where_they_can_be_restored(disk, place, used, tmp_path):
    used.path(".ratchet").rename(used.path(disk))
    used.path(".ratchet").symlink_to(disk)
    writing.back_up(tmp_path / "today.zip")
    with archive.opened(tmp_path / "today.zip") as (manifest, _):
        assert f"{place}/spool/7.jsonl" in [entry.path for entry in manifest.files]
        assert (".ratchet" in manifest.links) == (disk == place)


def test_a_run_at_work_is_not_backed_up_in_the_middle(used, tmp_path):
    used.path(".ratchet/locks").mkdir(exist_ok=True)
    with used.path(".ratchet/locks/flow.lock").open("w") as lock:
        import fcntl

        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write(f"{os.getppid()} host boot")
        lock.flush()
        with pytest.raises(RuntimeError, match="works in this workspace"):
            writing.back_up(tmp_path / "today.zip")
    assert not (tmp_path / "today.zip").exists()


def test_a_name_that_is_no_text_is_told_and_nothing_is_written(used, tmp_path):
    Path(os.fsdecode(b"data/raw/caf\xe9.txt")).touch()
    with pytest.raises(ValueError, match=r"'data/raw/caf\\udce9.txt': a backup can only hold names in UTF-8"):
        writing.back_up(tmp_path / "today.zip")
    assert not (tmp_path / "today.zip").exists()


def test_what_git_was_told_to_move_or_remove_is_gone_and_what_it_only_forgot_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shell(tmp_path, "git", "init", "--quiet")
    assert contents.removed() == []
    for name in ("moved", "removed", "forgotten", "deleted", "written anew", "kept"):
        Path(name).write_text(f"{name}\n" * 9)
    shell(tmp_path, "git", "add", "--all")
    shell(tmp_path, "git", "commit", "--quiet", "--message", "One")
    shell(tmp_path, "git", "mv", "moved", "here")
    shell(tmp_path, "git", "mv", "written anew", "there")
    shell(tmp_path, "git", "rm", "--quiet", "removed")
    shell(tmp_path, "git", "rm", "--quiet", "--cached", "forgotten")
    Path("deleted").unlink()
    Path("written anew").write_text("other\n")
    assert contents.removed() == ["deleted", "moved", "removed"]
    assert not {"forgotten", "written anew", "here", "there"} & contents.held_by_git()


def test_other_branches_and_the_stash_are_named_where_no_remote_has_their_commits(tmp_path, monkeypatch):
    shell(tmp_path, "git", "init", "--quiet", "--bare", "origin")
    shell(tmp_path, "git", "clone", "--quiet", "origin", "here")
    monkeypatch.chdir(tmp_path / "here")
    assert git.unpushed_branches() == []
    for branch in ("pushed", "experiment", "main"):
        shell(".", "git", "checkout", "--quiet", "--orphan", branch)
        Path("notes").write_text(branch)
        shell(".", "git", "add", "notes")
        shell(".", "git", "commit", "--quiet", "--message", branch)
    shell(".", "git", "push", "--quiet", "origin", "pushed")
    shell(".", "git", "branch", "like-main")
    assert git.unpushed_branches() == ["experiment"]
    Path("notes").write_text("edited")
    shell(".", "git", "stash", "--quiet")
    assert git.unpushed_branches() == ["experiment", "stash"]


def test_outputs_may_be_left_to_the_remote_once_it_has_them(used, clone, tmp_path, monkeypatch):
    shell(used.folder, "python", "-m", "dvc", "remote", "add", "--default", "store", str(tmp_path / "remote"))
    with pytest.raises(ValueError, match=r"DVC's remote lacks 5 outputs .*`ratchet share` pushes them"):
        writing.back_up(tmp_path / "backups", outputs=False)
    shell(used.folder, "python", "-m", "dvc", "push", "--quiet")
    backup = writing.back_up(tmp_path / "backups", outputs=False)
    with archive.opened(backup) as (manifest, _):
        assert not [entry.path for entry in manifest.files if entry.path.startswith(".dvc/cache/")]
    restored(backup, clone, monkeypatch)
    shell(clone, "python", "-m", "dvc", "pull", "--quiet")
    assert {step.state for step in forecast.plan()} == {"unchanged"}


def test_no_file_of_a_person_is_replaced_or_taken_for_a_backup(used, tmp_path):
    letter, zones, backup = tmp_path / "letter.txt", tmp_path / "zones.json", tmp_path / "today.json"
    letter.write_text("Dear reader\n")
    with pytest.raises(ValueError, match=r"letter\.txt already exists and is not a backup\."):
        writing.back_up(letter)
    assert letter.read_text() == "Dear reader\n"
    zones.write_text("{}\n")
    for to in (backup, backup, tmp_path):
        writing.back_up(to)
        assert restoring.restore(to, dry=True).files
