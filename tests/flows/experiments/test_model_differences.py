"""`ratchet why`: the stage where two models part, and what followed from it."""

import json
import math
from dataclasses import replace

import pytest
import yaml

from flows.commands import why
from flows.experiments import model_differences
from flows.registry import promotion
from tasks.core.records import CONDITIONS, Result
from tasks.io import tables
from tests.flows.registry.test_promotion import Nights, ratchet


@pytest.fixture
def nights(tmp_path, store):
    return Nights(tmp_path)


def lock(config, code, data="d"):
    """A dvc.lock of two stages, of which the second reads what the first writes."""
    stages = {
        "first": {
            "deps": [{"path": "data/raw", "md5": data}, {"path": "tasks/first.py", "md5": code}],
            "outs": [{"path": "out", "md5": f"{data}{code}"}],
        },
        "second": {
            "deps": [{"path": "out/part", "md5": f"{data}{code}"}],
            "params": {"params.yaml": {"tune": config}},
            "outs": [{"path": "models/tuned/r0", "md5": f"{data}{code}{config}"}],
        },
    }
    return yaml.safe_dump({"schema": "2.0", "stages": stages}, sort_keys=False)


def test_why_two_models_differ_is_told_by_the_stage_where_they_part(nights, capsys):
    (nights.folder / "dvc.lock").write_text(lock({"seed": 0}, "c"))
    nights.night("one", 1.9)
    promotion.promote()
    capsys.readouterr()
    (nights.folder / "dvc.lock").write_text(lock({"seed": 1}, "d"))
    nights.night("two", 2.0)
    said, worked = ratchet(capsys, "why", "champion", "candidate")
    assert "Items of the gate set: `ratchet promote` first, which counts it as a look at them." in said
    assert "items lost" not in said
    promotion.promote()
    said, worked = ratchet(capsys, "why", "champion", "candidate")
    assert worked, said
    lines = said.splitlines()
    assert lines[:5] == [
        "From version 1 to candidate.",
        "first:",
        "  code tasks/first.py",
        "  followed by second",
        "second:",
    ]
    assert lines[5] == "  tune.seed: 0 → 1"
    assert "2 stages differ independently" in said
    assert "domain: 40 of 40 items lost, 0 won" in said


def side(stages, name="r0"):
    """A model whose lock has these stages: name → what it reads and makes, hash by path, and its settings."""
    entries = {
        stage: {
            "deps": [{"path": path, "md5": digest} for path, digest in reads.items()],
            "params": {"params.yaml": {stage: settings}},
            "outs": [{"path": path, "md5": digest} for path, digest in makes.items()],
        }
        for stage, (reads, settings, makes) in stages.items()
    }
    files = {"model": {"path": f"models/tuned/{name}", "hash": ""}}
    return model_differences.ModelRecord(name, {"candidate": name, "files": files}, entries, [])


def making(ingest=0, data="d", tune=0, model="m", report=0):
    return side(
        {
            "ingest": ({"data/raw": "x"}, ingest, {"data/train": data, "data/other": "o"}),
            "side": ({"data/other": "o"}, 0, {"data/side": "s"}),
            "tune": ({"data/train": data}, tune, {"models/tuned/r0": model}),
            "evaluate": ({"models/tuned": model}, 0, {"data/gate/r0.parquet": f"g{model}"}),
            "report": ({"data/gate": f"g{model}"}, report, {"data/report": f"r{model}{report}"}),
        }
    )


def causes(before, after):
    return [(cause.stage, cause.effect) for cause in model_differences.causes(before, after)]


def test_the_first_stage_to_part_is_named_with_all_that_follows_from_it():
    assert causes(making(), making(ingest=1, data="e", model="n")) == [("ingest", ["ingest", "tune", "evaluate"])]


def test_a_change_that_made_the_same_is_no_cause_of_what_came_later():
    assert causes(making(), making(ingest=1, tune=1, model="n")) == [("ingest", []), ("tune", ["tune", "evaluate"])]


def test_what_the_model_does_not_follow_from_is_left_out():
    assert causes(making(), making(report=1)) == []
    assert model_differences._lineage(making()) == {"ingest", "tune", "evaluate"}


@pytest.mark.parametrize("measure", ["domain", "pass@1"])
def test_an_item_on_which_one_model_alone_diverged_is_lost_or_won(measure):
    def results(values):
        return [Result(measure, f"{n}", f"g{n}", None, value, 10, 40, "", "") for n, value in enumerate(values)]

    def told(before, after):
        models = (replace(making(), results=results(values)) for values in (before, after))
        (change,) = model_differences.item_changes(*models)
        return change.lost, change.won, [item.item for item in (*change.most_lost, *change.most_won)]

    sound, diverged = [1.0, 1.0, 1.0], [1.0, math.nan, math.inf]
    assert told(sound, diverged) == (2, 0, ["1", "2"])
    assert told(diverged, sound) == (0, 2, ["1", "2"])
    assert told(diverged, diverged) == (0, 0, [])


@pytest.mark.parametrize("other", [{"tokens": 5}, {"expected": "B"}])
def test_an_item_with_another_reference_or_under_another_tokenizer_is_not_compared(other):
    def record(name, value, changed):
        rows = [Result("domain", f"{n}", f"g{n}", None, value, 10, 40, "", "", expected="A") for n in range(3)]
        return model_differences.ModelRecord(name, {}, {}, [replace(row, **changed) for row in rows[:2]] + rows[2:])

    (change,) = model_differences.item_changes(record("one", 1.0, {}), record("two", 2.0, other))
    assert (change.items, change.lost, [item.item for item in change.most_lost]) == (1, 1, ["2"])


def test_figures_of_models_that_were_measured_otherwise_are_not_compared(nights, capsys):
    nights.night("one", 1.9)
    promotion.promote()
    nights.night("two", 1.8)
    promotion.promote()
    said, _ = ratchet(capsys, "why", "1", "2")
    assert "domain: 0 of 40 items lost, 40 won" in said
    results = nights.folder / "models/versions/1/results.parquet"
    tables.write(results, tables.read(results, Result), Result, {CONDITIONS: "other settings"})
    said, worked = ratchet(capsys, "why", "1", "2")
    assert worked, said
    assert why.UNLIKE in said
    assert "items lost" not in said
    capsys.readouterr()
    report = json.loads(ratchet(capsys, "why", "1", "2", "--json")[0])
    assert (report["items"], report["measured_alike"]) == ([], False)


def test_other_bytes_from_equal_inputs_are_the_machines(nights):
    sides = []
    for made in ("a", "b"):
        stages = yaml.safe_load(lock({"seed": 0}, "c"))["stages"]
        stages["first"]["outs"][0]["md5"] = made
        stages["second"]["deps"][0]["md5"] = made
        sides.append(model_differences.ModelRecord(made, {"machine": {"processor": made}}, stages, []))
    (cause,) = model_differences.causes(*sides)
    assert cause.stage == "first"
    assert cause.what == [
        "other bytes from equal inputs: another class of machine, or a computation that is not deterministic"
    ]
    assert model_differences.machine_changes(*sides) == ["processor: a → b"]


def test_a_model_that_is_not_there_is_told_with_those_that_are(nights):
    nights.night("one", 1.9)
    promotion.promote()
    with pytest.raises(ValueError, match=r"There is no version '7'. There are: 1, champion, candidate"):
        model_differences.load_record("7")
