"""What a backup may replace, and where it may write: backups made by hand, some by someone who means harm."""

import hashlib
import json
import os
import sqlite3
import zipfile
from contextlib import closing
from pathlib import Path

import pytest

from flows.registry.backup import restoring, writing
from tasks.io.runs import moved_store
from tests.flows.registry.test_backup import shell

COMMIT = "c" * 40


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A clone with files of git, one of them edited, and with files of its user."""
    folder = tmp_path / "clone"
    for name, text in {"notes.md": "git's", "edited.md": "git's", "old/a": "git's", "file": "git's"}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    shell(folder, "git", "init", "--quiet")
    shell(folder, "git", "add", "--all")
    shell(folder, "git", "commit", "--quiet", "--message", "One")
    (folder / "edited.md").write_text("mine")
    (folder / "own.txt").write_text("mine")
    (folder / "data/notes").mkdir(parents=True)
    (folder / "data/notes/mine.txt").write_text("the only copy")
    (folder / "git").symlink_to(".git")
    monkeypatch.chdir(folder)
    return folder


def backup(files=(), **manifest):
    """A backup of these files, each of which holds its own path."""
    commit = shell(Path.cwd(), "git", "rev-parse", "HEAD").strip()
    digests = {path: hashlib.sha256(path.encode()).hexdigest() for path in files}
    values = {
        "version": 1, "time": "2026-11-28T12:00:00Z", "folder": str(Path.cwd()), "commit": commit, "branch": "", "commits": None,
        "packages": {}, "with_outputs": True, "outputs": [], "databases": [], "links": {}, "removed": [],
        "files": [{"path": path, "sha256": digest, "size": len(path), "mode": 0o644} for path, digest in digests.items()],
    }  # fmt: skip
    made = Path.cwd().parent / "made.zip"
    with zipfile.ZipFile(made, "w") as file:
        for path, digest in digests.items():
            file.writestr(f"objects/{digest}", path)
        file.writestr("manifest.json", json.dumps(values | manifest))
    return made


def listed(folder):
    return {path: path.is_file() and path.read_bytes() for path in folder.rglob("*") if ".ratchet" not in path.parts}


@pytest.mark.parametrize(
    ("made", "named"),
    [
        ({"files": ["new", "data/notes"]}, "data/notes/mine.txt"),
        ({"files": ["new", "own.txt/x"]}, "own.txt"),
        ({"links": {"data/notes": "x"}}, "data/notes/mine.txt"),
        ({"links": {"own.txt/x": "x"}}, "own.txt"),
        ({"files": ["new"], "removed": ["own.txt"]}, "own.txt"),
        ({"files": ["new"], "removed": ["edited.md"]}, "edited.md"),
        ({"files": ["new"], "outputs": ["data/notes"]}, "data/notes/mine.txt"),
    ],
)
def test_what_neither_git_nor_the_cache_has_is_in_the_way(made, named, clone):
    before = listed(clone)
    with pytest.raises(ValueError, match=f"files of its own, which the backup would replace: {named}\\. Restore"):
        restoring.restore(backup(**made))
    assert listed(clone) == before


def test_what_git_has_makes_room(clone):
    made = backup(["file/x", "old", "data/notes/x"], removed=["notes.md", "old/a", "long/gone"], links={"edited": "x"})
    restoring.restore(made)
    assert [Path(name).read_text() for name in ("file/x", "old", "data/notes/x")] == ["file/x", "old", "data/notes/x"]
    assert not Path("notes.md").exists()
    assert Path("data/notes/mine.txt").read_text() == "the only copy"
    restoring.restore(made)  # as after one that was broken off at its end


def test_an_output_that_the_backup_has_in_its_cache_is_put_in_place_again(clone, monkeypatch):
    placed = []
    monkeypatch.setattr(restoring.cache, "checkout", placed.extend)
    digest = hashlib.md5(b"the only copy", usedforsecurity=False).hexdigest()
    restoring.restore(backup([f".dvc/cache/files/md5/{digest[:2]}/{digest[2:]}"], outputs=["data/notes"]))
    assert placed == ["data/notes"]


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ({"files": [".dvc/cache/l/keys"], "databases": [".dvc/cache/l/keys"], "links": {".dvc/cache/l": "../../.."}}, "is reached through a link of the backup"),
        ({"files": ["l/hooks/post-checkout"], "databases": ["l/hooks/post-checkout"], "links": {"l": ".git"}}, "is reached through a link"),
        ({"links": {"l": ".git", "l/hooks/post-checkout": "/x"}}, "is reached through a link"),
        ({"files": ["git/hooks/post-checkout"]}, r"would be written outside of .*, or into \.git, where a link leads"),
        ({"files": [".dvc/cache/out/keys"]}, "would be written outside of"),
        ({"commit": "$(touch x)"}, "commit: String should match pattern"),
        ({"commit": COMMIT, "branch": "a; touch x"}, f"git checkout -B 'a; touch x' {COMMIT}, and then"),
    ],
)  # fmt: skip
def test_nothing_is_written_elsewhere_and_no_command_of_the_backup_is_reported(made, message, clone):
    Path(".dvc/cache").mkdir(parents=True)
    Path(".dvc/cache/out").symlink_to(clone.parent)
    made = backup(**made)
    before = listed(clone.parent)
    with pytest.raises(ValueError, match=message):
        restoring.restore(made)
    assert listed(clone.parent) == before


def test_a_branch_with_commits_that_only_this_clone_has_is_not_moved(clone):
    branch = shell(clone, "git", "branch", "--show-current").strip()
    with pytest.raises(ValueError, match=f"git checkout {COMMIT}, and then"):
        restoring.restore(backup(commit=COMMIT, branch=branch))


def test_nobody_else_reads_the_keys_of_a_snapshot_or_of_what_was_restored(clone):
    former = os.umask(0o022)
    try:
        with writing._snapshots() as snapshots:
            assert snapshots.stat().st_mode & 0o777 == 0o700
        restoring.restore(backup([".ratchet/prefect/prefect.db", ".ratchet/keys/own/evidence.pem"]))
    finally:
        os.umask(former)
    assert {Path(f".ratchet/{name}").stat().st_mode & 0o777 for name in ("prefect", "keys")} == {0o700}


def databases(*names, folder="/old"):
    """A backup, made in another folder, of databases of MLflow that hold that folder."""
    path = backup(names, folder=folder, databases=list(names))
    with zipfile.ZipFile(path) as file:
        manifest = json.loads(file.read("manifest.json"))
    with zipfile.ZipFile(path, "w") as file:
        for number, entry in enumerate(manifest["files"]):
            made = path.with_name(f"{number}.db")
            with closing(sqlite3.connect(made)) as store, store:
                for table, columns in moved_store.PLACES.items():
                    store.execute(f"CREATE TABLE {table} ({', '.join(columns)}, number DEFAULT {number})")
                store.execute("INSERT INTO runs (artifact_uri) VALUES (?)", (f"{folder}/mlruns/1",))
            entry |= {"sha256": hashlib.sha256(made.read_bytes()).hexdigest(), "size": made.stat().st_size}
            file.write(made, f"objects/{entry['sha256']}")
        file.writestr("manifest.json", json.dumps(manifest))
    return path


def placed(name):
    with closing(sqlite3.connect(name)) as store:
        return store.execute("SELECT artifact_uri FROM runs").fetchone()[0]


def test_a_restoration_below_the_old_folder_that_was_broken_off_moves_no_place_twice(clone, monkeypatch):
    made = databases("mlflow.db", folder=str(clone.parent))

    def broken(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(restoring, "_put", broken)
    with pytest.raises(KeyboardInterrupt):
        restoring.restore(made)
    monkeypatch.undo()
    monkeypatch.chdir(clone)
    restoring.restore(made)
    assert placed("mlflow.db") == f"{clone}/mlruns/1"


def test_a_restoration_in_another_folder_that_was_broken_off_at_its_end_goes_on(clone, monkeypatch):
    made = databases("mlflow.db", "other.db")
    whole = restoring._put

    def broken(entry, *arguments, **options):
        if entry.path == "other.db":
            raise KeyboardInterrupt
        whole(entry, *arguments, **options)

    monkeypatch.setattr(restoring, "_put", broken)
    with pytest.raises(KeyboardInterrupt):
        restoring.restore(made)
    monkeypatch.undo()
    monkeypatch.chdir(clone)
    for _ in range(2):  # and once more where all is in place
        restoring.restore(made)
        assert {placed(name) for name in ("mlflow.db", "other.db")} == {f"{clone}/mlruns/1"}
    with closing(sqlite3.connect("mlflow.db")) as store, store:
        store.execute("INSERT INTO runs (artifact_uri) VALUES ('of this machine')")
    with pytest.raises(ValueError, match=r"files of its own, which the backup would replace: mlflow\.db"):
        restoring.restore(made)
