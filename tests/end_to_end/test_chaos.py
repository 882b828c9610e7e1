"""A short version of `make chaos`, and tests that its checks detect every kind of damage."""

import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "benchmarks"))

import chaos  # noqa: E402
import intact  # noqa: E402


def test_ten_kills_of_the_first_stages_are_recovered_from(tmp_path):
    # Driven by DVC, which is quick to start; that a flow, its supervisor or its server dies is tested in tests/flows.
    chosen = ["--stages", "3", "--kills", "10", "--driver", "dvc", "--folder", str(tmp_path)]
    command = [sys.executable, str(ROOT / "benchmarks/chaos.py"), *chosen]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [json.loads(line) for line in (tmp_path / "kills.jsonl").read_text().splitlines()]
    assert len([row for row in rows if "gone_s" in row]) == 10
    assert {row["target"] for row in rows} == {"stage", "dvc"}
    assert "| all | 10 | 10 | 0 |" in done.stdout


@pytest.fixture
def twins(tmp_path):
    """Two equal workspaces in which stages `one` and `two` are done."""
    folder = tmp_path / "undisturbed"
    (folder / "data/raw").mkdir(parents=True)
    (folder / "models/m").mkdir(parents=True)
    (folder / ".ratchet/spool").mkdir(parents=True)
    (folder / ".dvc/tmp").mkdir(parents=True)
    (folder / ".dvc/tmp/rwlock").write_text("{}")
    (folder / "data/a.json").write_text("{}")
    (folder / "models/m/weights").write_text("1")
    stages = {"one": {"outs": [{"path": "data/a.json"}]}, "two": {"outs": [{"path": "models/m"}]}}
    (folder / "dvc.lock").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))
    (folder / ".dvc/cache/files/md5/99").mkdir(parents=True)
    (folder / ".dvc/cache/files/md5/99/914b932bd37a50b983c5e7c90ae93b").write_text("{}")
    with sqlite3.connect(folder / "mlflow.db") as store:
        store.execute("create table runs (run_uuid, name, status)")
        store.execute("create table tags (run_uuid, key, value)")
        for number, stage in enumerate(stages):
            store.execute("insert into runs values (?, ?, 'FINISHED')", (number, stage))
            store.execute("insert into tags values (?, 'dvc.stage', ?)", (number, stage))
    store.close()
    shutil.copytree(folder, tmp_path / "disturbed")
    return tmp_path / "disturbed", folder


@pytest.mark.parametrize(
    ("target", "gone_s", "survivors", "problem"),
    [
        ("stage", 34.0, [], []),
        ("stage", 36.0, [], ["gone only 36 s after it"]),
        ("server", 200.0, [], []),  # the run goes on
        ("server", 600.0, ["dvc repro"], ["outlived it by 600 s: dvc repro"]),
    ],
)
def test_what_outlives_its_kill_is_a_problem(target, gone_s, survivors, problem):
    kill = chaos.Kill(0, target, "flow", 0, ("one",), "one", 0.5)
    assert chaos._stayed(kill, {"gone_s": gone_s, "left": survivors}) == problem


@pytest.mark.parametrize(
    ("said", "torn"),
    [
        ("Unable to read RWLock-file '.dvc/tmp/rwlock'. JSON structure is corrupted: Expecting value", True),
        ("RWLock-file '.dvc/tmp/rwlock' format error.", True),
        ("'dvc.lock' is invalid.", True),
        ("'./dvc.lock' validation failed.", True),
        ("unable to read: 'dvc.lock', YAML file structure is corrupted", True),
        ("Updating lock file 'dvc.lock'\nERROR: failed to reproduce 'one': failed to run", False),
        ("'models/m' is busy, it is being blocked by: (PID 1)", False),
    ],
)
def test_plain_dvc_may_refuse_for_torn_files_alone(said, torn):
    assert bool(chaos.TORN.search(said)) == torn


def test_a_workspace_as_it_should_be_has_no_problem(twins):
    assert intact.problems(*twins, ["one", "two"], ["one", "two"]) == []


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda at: (at / "models/m/weights").write_text("2"), "models/m: other bytes"),
        (lambda at: (at / "models/m/more").write_text("2"), "models/m: other bytes"),
        (lambda at: (at / "data/a.json").unlink(), "data/a.json: is missing"),
        (lambda at: (at / "data/a.json.partial").write_text(""), "data/a.json.partial: left over"),
        (lambda at: (at / "dvc.lock.torn").write_text(""), "dvc.lock.torn: left over"),
        (lambda at: (at / "core").write_text(""), "core: nobody should have left it"),
        (lambda at: (at / ".ratchet/spool/x.jsonl").write_text(""), ".ratchet/spool/x.jsonl: left over"),
        (lambda at: (at / ".dvc/tmp/rwlock").write_text('{"write": {"/a": {}}}'), "table of paths in use is not empty"),
        (lambda at: next((at / ".dvc/cache/files/md5/99").iterdir()).write_text("x"), "does not hold what its name says"),
        (lambda at: relock(at, lambda stages: stages.pop("two")), "dvc.lock: no entry of two"),
        (lambda at: relock(at, lambda stages: stages["one"].update(cmd="x")), "one is not that of an undisturbed run"),
        (lambda at: relock(at, lambda stages: stages.update(one=stages.pop("one"))), "dvc.lock: in the order two, one"),
        (lambda at: alter_runs(at, "update runs set status = 'RUNNING' where name = 'one'"), "MLflow: one reads RUNNING"),
        (lambda at: alter_runs(at, "update runs set status = 'KILLED' where name = 'two'"), "no finished run of two"),
    ],
)  # fmt: skip
def test_every_kind_of_damage_is_a_problem(twins, damage, expected):
    disturbed, undisturbed = twins
    damage(disturbed)
    problems = intact.problems(disturbed, undisturbed, ["one", "two"], ["one", "two"])
    assert any(expected in problem for problem in problems), problems


def relock(folder, edit):
    lock = yaml.safe_load((folder / "dvc.lock").read_text())
    edit(lock["stages"])
    (folder / "dvc.lock").write_text(yaml.safe_dump(lock, sort_keys=False))


def alter_runs(folder, statement):
    with sqlite3.connect(folder / "mlflow.db") as store:
        store.execute(statement)
    store.close()
