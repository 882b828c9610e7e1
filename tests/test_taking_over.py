"""A round whose inputs, settings and code equal another's takes over what that one made, once it is whole."""

import os
import shutil
import sys

import pytest
import yaml

from tests.runner import WAIT_S, Workspace

WRITES = "(outputs['pairs'] / 'rows').write_text('1234')"


@pytest.fixture
def rounds(tmp_path, empty_store):
    """A workspace of three rounds, of which the first two have equal examples; `faults`, which imports little, runs in it."""
    workspace = Workspace(tmp_path, empty_store)
    params = yaml.safe_load((workspace.folder / "params.yaml").read_text())
    params["rounds"] = {name: {} for name in ("r0", "r1", "r2")}
    params["turns"] = {"r1": {"prev": "r0"}, "r2": {"prev": "r1"}}
    (workspace.folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    for path in ("models/pretrained/config.json", "data/raw/.gitkeep"):
        (workspace.folder / path).parent.mkdir(parents=True)
        (workspace.folder / path).write_text("{}")
    for name in params["rounds"]:
        (workspace.folder / f"data/rounds/{name}").mkdir(parents=True)
        examples = workspace.folder / f"data/rounds/{name}/examples.parquet"
        examples.write_text("others" if name == "r2" else "equal")
    return workspace


def faults(rounds, name, body=WRITES):
    """What stage `faults` prints for this round. Its outputs are folders here, which says more."""
    code, out, err = rounds.drive(body, stage="faults", arguments=("faults", name))
    assert code == 0, err
    return out


def test_a_round_that_changed_nothing_takes_over_what_the_other_made(rounds):
    faults(rounds, "r0")
    said = faults(rounds, "r1", "raise AssertionError('this costs something')")
    assert said == "faults@r1: its inputs, settings and code are those of faults@r0, whose outputs it takes over\n"
    assert (rounds.folder / "data/rounds/r1/faults.parquet/rows").read_text() == "1234"
    taken = next(events for events in rounds.spooled if events[0]["tags"]["dvc.stage"] == "faults@r1")
    assert {"taken_over_from": "faults@r0"} in [event["values"] for event in taken if event["kind"] == "params"]
    assert taken[-1]["status"] == "FINISHED"


def test_what_was_taken_over_is_taken_over_in_turn(rounds):
    faults(rounds, "r0")
    faults(rounds, "r1")
    shutil.rmtree(rounds.folder / "data/rounds/r0/faults.parquet")
    assert "those of faults@r1" in faults(rounds, "r0")


def test_a_copy_stands_alone_and_can_be_written(rounds):
    faults(rounds, "r0")
    theirs = rounds.folder / "data/rounds/r0/faults.parquet/rows"
    theirs.chmod(0o444)  # as DVC leaves what it links to its cache
    faults(rounds, "r1")
    own = rounds.folder / "data/rounds/r1/faults.parquet/rows"
    assert own.stat().st_ino != theirs.stat().st_ino
    assert own.stat().st_mode & 0o200


def test_a_round_of_other_examples_is_looked_at(rounds):
    faults(rounds, "r0")
    assert faults(rounds, "r2") == "started\n"


def test_other_settings_are_other_work(rounds):
    faults(rounds, "r0")
    params = yaml.safe_load((rounds.folder / "params.yaml").read_text())
    params["faults"]["seed"] = 1
    (rounds.folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    assert faults(rounds, "r1") == "started\n"


@pytest.mark.parametrize("damage", ["changed", "cut", "gone", "more", "no record", "torn record"])
def test_outputs_that_are_not_whole_are_not_taken_over(rounds, damage):
    faults(rounds, "r0")
    rows, record = rounds.folder / "data/rounds/r0/faults.parquet/rows", rounds.folder / ".ratchet/made/faults@r0.json"
    times = rows.stat()
    match damage:
        case "changed":
            rows.write_text("1235")
            os.utime(rows, ns=(times.st_atime_ns, times.st_mtime_ns))  # a digest by size and time would not see it
        case "cut":
            rows.write_text("123")
        case "gone":
            shutil.rmtree(rows.parent)
        case "more":
            rows.with_name("more").touch()
        case "no record":
            record.unlink()
        case "torn record":
            record.write_text(record.read_text()[:20])
    assert faults(rounds, "r1") == "started\n"
    assert (rounds.folder / "data/rounds/r1/faults.parquet/rows").read_text() == "1234"


@pytest.fixture
def at_once(rounds):
    """Starts `faults` for the first two rounds, which are equal, so that the second finds the first at work.

    Gives back what the second prints once the first, which waits for it, goes on with `then`.
    """

    def start(then):
        def begin(name, body):
            return rounds.start(sys.executable, rounds.driver(body, stage="faults", arguments=("faults", name)))

        first = begin("r0", f"while not os.path.exists('go'): time.sleep(0.05)\n    {then}")
        assert first.stdout.readline() == "started\n"
        second = begin("r1", WRITES)
        assert second.stdout.readline() == "faults@r1: an equal faults is running; waiting for its outputs\n"
        (rounds.folder / "go").touch()
        out, err = second.communicate(timeout=WAIT_S)
        first.communicate(timeout=WAIT_S)
        assert second.returncode == 0, err
        assert not list((rounds.folder / ".ratchet/locks").glob("faults-*"))
        return out

    return start


def test_of_equal_rounds_at_once_one_waits_for_the_other(at_once):
    assert at_once(WRITES).endswith("whose outputs it takes over\n")


def test_a_round_does_not_wait_in_vain_for_an_equal_one_that_fails(at_once):
    assert at_once("raise ValueError('no')") == "started\n"
