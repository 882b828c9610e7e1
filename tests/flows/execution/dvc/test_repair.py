"""What killed processes leave behind is mended, and what living ones are at is left alone."""

import json
import os
import subprocess
import threading
import time

import psutil
import pytest
import yaml

from flows.execution.dvc import lock_file, repair, rwlock
from tasks.io.system import locks
from tests.flows.conftest import processes, wait_for
from tests.flows.execution.dvc.test_forecast import repro, states

pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")  # in dvc itself


def test_a_lock_that_is_cut_anywhere_is_put_back_from_the_last_good_copy_and_that_is_said(done, capsys):
    lock_file.tidy()
    whole = done.lock
    ends = [place + 1 for place, byte in enumerate(whole[:-1]) if byte == ord("\n")]
    # Most of what is left is YAML, and much of it a lock file.
    for keep in sorted({*range(0, len(whole) - 1, 7), *ends}):
        done.path("dvc.lock").write_bytes(whole[:keep])
        told = repair.repair()
        lock_file.tidy()
        said = capsys.readouterr().out
        assert done.lock == whole, keep
        assert len(told) + said.count("dvc.lock lacks") == 1, keep
    assert set(states().values()) == {"unchanged"}
    assert repair.repair() == []


@pytest.mark.parametrize("end", ["hash: md5\n", "md5: d41d8cd98f00b204e9800998ecf8427e\n"])
@pytest.mark.parametrize("side", ["deps", "outs"])
def test_a_lock_whose_last_file_has_no_hash_is_torn(tmp_path, side, end):
    path = tmp_path / "dvc.lock"
    path.write_text(f"schema: '2.0'\nstages:\n  one:\n    cmd: echo\n    {side}:\n    - path: in.txt\n      {end}")
    problem = lock_file.problem(path)
    assert problem == (None if end.startswith("md5") else "stage one has an entry without a hash")


@pytest.mark.parametrize(
    ("text", "problem"),
    [("", "its last line is truncated"), ("\n", "it is empty"), ("schema: '2.0'", "its last line is truncated")],
)
def test_a_lock_that_is_empty_or_ends_within_a_line_is_torn(tmp_path, text, problem):
    path = tmp_path / "dvc.lock"
    path.write_text(text)
    assert lock_file.problem(path) == problem


def test_a_merge_conflict_in_the_lock_is_left_to_a_person(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = "schema: '2.0'\nstages:\n<<<<<<< HEAD\n  one: {cmd: a}\n=======\n  one: {cmd: b}\n>>>>>>> theirs\n"
    lock_file.PATH.write_text(text)
    with pytest.raises(ValueError, match=r"dvc\.lock: git has left a merge conflict in it\. Keep one side"):
        repair.repair()
    assert lock_file.PATH.read_text() == text


def test_a_stage_that_was_lost_and_changed_since_runs_though_its_old_entry_is_put_back(done):
    lock_file.tidy()
    lock = yaml.safe_load(done.lock)
    del lock["stages"]["side"], lock["stages"]["last"]
    done.path("dvc.lock").write_text(yaml.safe_dump(lock, sort_keys=False))
    done.edit("dvc.yaml", "cmd: cp in.txt side.txt", "cmd: cat in.txt > side.txt")
    assert lock_file.tidy()
    assert states()["side"] == "run"


def test_an_entry_that_was_taken_out_from_among_others_is_no_loss(done):
    lock_file.tidy()
    lock = yaml.safe_load(done.lock)
    del lock["stages"]["one"]
    done.path("dvc.lock").write_text(yaml.safe_dump(lock, sort_keys=False))
    lock_file.tidy()
    assert "one" not in yaml.safe_load(done.lock)["stages"]


def test_a_copy_that_is_damaged_itself_is_not_put_anywhere(done):
    lock_file.tidy()
    whole = done.lock
    done.path(".ratchet/dvc.lock.good").write_bytes(whole[:-40])
    lock_file.tidy()
    assert done.lock == whole
    done.path(".ratchet/dvc.lock.good").write_bytes(whole[:-40])
    done.path("dvc.lock").write_bytes(whole[:-40])
    assert "run cache" in repair.repair()[0]


def test_a_stage_that_dvc_yaml_has_no_more_is_not_put_back(done):
    lock_file.tidy()
    known = yaml.safe_load(done.path("dvc.yaml").read_text())
    del known["stages"]["side"]
    known["stages"]["last"]["deps"] = [dep for dep in known["stages"]["last"]["deps"] if dep != "side.txt"]
    done.path("dvc.yaml").write_text(yaml.safe_dump(known, sort_keys=False))
    lock_file.tidy()
    assert "side" not in yaml.safe_load(done.lock)["stages"]


def test_a_torn_lock_without_a_copy_is_made_anew_from_the_run_cache(done):
    done.path("dvc.lock").write_text("schema: '2.0'\nstages:\n  one: {")
    (said,) = repair.repair()
    assert "run cache" in said
    assert set(states().values()) == {"restored"}


def test_dvcs_torn_table_of_paths_in_use_is_moved_aside(done):
    done.path(".dvc/tmp/rwlock").write_text('{"write": {"/a": {"pi')
    (said,) = repair.repair()
    assert "rwlock was incomplete" in said
    repro("--quiet")


def test_owners_are_read_from_dvcs_table(done):
    entry = {"pid": 77, "cmd": "dvc repro"}
    done.path(".dvc/tmp/rwlock").write_text(json.dumps({"write": {"/a": entry}, "read": {"/b": [entry]}}))
    assert rwlock.owners() == {77: "dvc repro"}


@pytest.mark.parametrize("alive", [False, True])
def test_claims_of_the_dead_are_dropped_though_their_number_was_given_to_a_stranger(done, alive):
    table = done.path(".dvc/tmp/rwlock")
    mine = {"pid": os.getpid(), "cmd": "dvc repro"}
    with subprocess.Popen(["sleep", "60"]) as stranger:
        if not alive:
            stranger.kill()
            stranger.wait()
        theirs = mine | {"pid": stranger.pid}
        table.write_text(json.dumps({"write": {"/a": theirs}, "read": {"/b": [theirs, mine]}}))
        written = psutil.Process().create_time() + 1  # after this process began, and before the stranger did
        os.utime(table, (written, written))
        (said,) = repair.repair()
        stranger.kill()
    assert f"has ended ({stranger.pid})" in said
    assert json.loads(table.read_text()) == {"write": {}, "read": {"/b": [mine]}}
    assert repair.repair() == []


def test_processes_of_another_machine_are_not_taken_for_dead_ones(done):
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    table = done.path(".dvc/tmp/rwlock")
    table.write_text(json.dumps({"write": {"/a": {"pid": gone.pid, "cmd": "dvc repro"}}}))
    claim = done.path(".ratchet/locks/flow.lock")
    claim.parent.mkdir(parents=True, exist_ok=True)
    claim.write_text("77 elsewhere some-other-kernel")
    assert repair.damages() == repair.repair() == []
    for command in ("run", "tidy"):
        refused = done.run("flows.commands", command)
        assert refused.returncode
        assert "process 77 of elsewhere" in refused.stdout + refused.stderr
    assert str(gone.pid) in table.read_text()
    claim.write_text("")
    assert "has ended" in repair.repair()[0]


def test_a_living_dvc_keeps_its_claims(done):
    mark = f"sleep 35.{os.getpid()}"
    done.edit("dvc.yaml", "cmd: cp in.txt side.txt", f"cmd: {mark}; cp in.txt side.txt")
    process = done.start("dvc", "repro", "side")
    wait_for(lambda: processes(mark), done.printed)
    assert list(rwlock.owners()) == [process.pid]
    assert repair.damages() == repair.repair() == []
    process.kill()
    process.wait()
    assert "has ended" in repair.repair()[0]
    for pid in [int(line.split()[0]) for line in listed(mark)]:
        os.kill(pid, 9)


def listed(mark):
    lines = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout.splitlines()
    return [line for line in lines if mark in line]


def test_a_lock_file_that_a_living_dvc_is_writing_is_no_torn_one(done):
    from dvc.lock import Lock

    whole = done.lock
    said = []
    with Lock(".dvc/tmp/lock"):
        done.path("dvc.lock").write_bytes(b"")
        thread = threading.Thread(target=lambda: said.extend(repair.repair()))
        thread.start()
        time.sleep(1)
        done.path("dvc.lock").write_bytes(whole)
    thread.join(30)
    assert said == []
    assert done.lock == whole


def test_an_entry_of_the_run_cache_whose_write_was_cut_off_stops_no_later_run(done):
    runs = done.path(".dvc/cache/runs")
    (entry,) = (path for path in runs.glob("*/*/*") if "path: side.txt" in path.read_text().partition("outs:")[2])
    key = entry.parent
    whole = entry.read_bytes()
    entry.unlink()
    done.edit("dvc.lock", "side:", "other:")
    failed = done.run("dvc", "repro", "--single-item", "side")
    assert failed.returncode  # as DVC leaves it: an empty folder stops every later run of the stage
    assert repair.damages() == [f"{key}: DVC's run cache has an entry whose write was cut off"]
    assert [str(key) in line for line in repair.repair()] == [True]
    assert not key.exists()
    key.mkdir()
    partial = key / ".8jk2vOoZ4m9cxnTq.tmp"
    partial.write_bytes(whole[: len(whole) // 2])
    assert len(repair.repair()) == 2
    assert done.run("dvc", "repro", "--single-item", "side").returncode == 0
    assert repair.damages() == []
    assert len(list(key.iterdir())) == 1


def test_a_cache_that_others_share_keeps_what_they_may_be_writing_now(done, tmp_path):
    shared = tmp_path / "shared"
    assert done.run("dvc", "cache", "dir", str(shared)).returncode == 0
    folder = shared / "runs/ab/abcd"
    folder.mkdir(parents=True)
    assert repair.repair() == []
    os.utime(folder, (0, 0))
    assert len(repair.repair()) == 1


def test_outputs_that_a_killed_stage_left_beside_their_places_are_removed_once_nobody_writes_them(done):
    for place in ("models/tuned/r1.partial", "data/rounds/r0", "data/raw", "data/incoming"):
        done.path(place).mkdir(parents=True)
    theirs = ("data/raw/mine.partial", "data/incoming/tue.jsonl.partial", "data/rounds/mine.csv.partial")
    for file in ("models/tuned/r1.partial/half", "data/rounds/r0/examples.parquet.partial", *theirs):
        done.path(file).write_text("half")
    with locks.exclusive(done.path(".ratchet/locks/tune@r1.lock")):
        assert repair.damages() == repair.repair() == []
    with locks.exclusive(done.path(".ratchet/locks/flow.lock")):
        assert len(repair.repair()) == 2
    assert list(done.path("models/tuned").iterdir()) == list(done.path("data/rounds/r0").iterdir()) == []
    assert all(done.path(file).exists() for file in theirs)
    assert set(states().values()) == {"unchanged"}
