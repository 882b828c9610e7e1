"""What comes in is looked at once, and once more where what it is held against has changed."""

import contextlib
from pathlib import Path
from types import SimpleNamespace

import pytest

from flows import monitor as flow
from flows.execution import flow_lease
from flows.registry import drift_log, promotion
from tasks import monitor
from tests.flows.registry.test_promotion import Nights
from tests.test_monitor import OURS, THEIRS, prompts, send, training_data

pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")  # in dvc itself


def look_here(command, check):
    """Run the monitors in this process: one of its own imports what they need for eight CPU-seconds."""
    _python, _m, module, output, *paths = command
    assert module == monitor.__name__
    monitor.main(Path(output), list(map(Path, paths)))
    return SimpleNamespace(returncode=0)


def test_a_proposal_is_a_sentence_with_what_to_do():
    proposal = {
        "task": "law",
        "items": 31,
        "answered": 4,
        "by_file": {"law": [30, 30], "monday": [1, 9]},
        "rows": "x.new.jsonl",
    }
    said = drift_log._proposed(proposal)
    assert said.startswith(
        "31 items are of no domain on which the model was trained (30 of 30 in law, 1 of 9 in monday)"
    )
    assert "x.new.jsonl, 4 of them with an answer" in said
    assert "{from: file, path: …, task: law}" in said
    assert drift_log._proposed(None) == ""


def test_the_same_data_are_told_again_unseen_until_another_model_is_in_place(done, store, monkeypatch):
    Nights(done.folder).night("better", 1.9)
    training_data(done.folder)
    with done.path("params.yaml").open("a") as config:
        config.write("monitor: {methods: [mmd]}\n")
    send(done.folder, prompts(40, THEIRS, 2))
    first, again = (drift_log.check([Path("in.jsonl")]) for _ in range(2))
    assert not again.known  # nobody was told yet
    drift_log.mark_reported(first)
    assert again.known
    assert first.drifted == again.drifted == ["mmd"]
    assert again.line == first.line
    monkeypatch.setattr(drift_log, "subprocess", SimpleNamespace(run=look_here))  # a process did so once
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # which monitors set, and which is undone with this
    send(done.folder, prompts(40, THEIRS, 3))
    assert not drift_log.check([Path("in.jsonl")]).known
    send(done.folder, prompts(40, THEIRS, 2))
    assert drift_log.check([Path("in.jsonl")]).known  # though others were looked at since
    promotion.promote()
    assert not drift_log.check([Path("in.jsonl")]).known


def test_findings_are_known_as_long_as_what_they_follow_from_is_the_same(tmp_path, store):
    nights = Nights(tmp_path)
    training_data(tmp_path)
    send(tmp_path, prompts(40, OURS, 2))

    def is_another(change):
        before = drift_log._basis([Path("in.jsonl")])
        change()
        return drift_log._basis([Path("in.jsonl")]) != before

    assert is_another(lambda: nights.night("one", 1.9)), (
        "without a champion it is the candidate that losses are taken of"
    )
    assert is_another(promotion.promote)
    assert not is_another(lambda: nights.night("two", 1.95))
    assert not is_another(promotion.promote), "it was refused"
    assert not is_another(lambda: Path("dvc.lock").write_text("schema: '2.0'\nstages: {report: {cmd: x}}\n"))
    for path in (monitor.TRAINED, monitor.HELD_OUT, monitor.EMBEDDER / "config.json"):
        path.parent.mkdir(parents=True, exist_ok=True)
        assert is_another(lambda path=path: path.write_bytes(b"another")), path


def test_rows_that_are_too_few_yet_are_nothing_new_unless_they_were_named(done, monkeypatch):
    with done.path("params.yaml").open("a") as config:
        config.write("monitor: {methods: [mmd], incoming: in.jsonl}\n")
    send(done.folder, prompts(4, OURS, 2))
    monkeypatch.setattr(drift_log, "subprocess", SimpleNamespace(run=look_here))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(flow_lease, "acquired", contextlib.nullcontext)
    ended = flow.monitor.fn(None)
    assert (ended.name, ended.message[:24]) == ("Nothing new", "4 rows of in.jsonl can b")
    with pytest.raises(ValueError, match="4 rows of in"):
        flow.monitor.fn(["in.jsonl"])
