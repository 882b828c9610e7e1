"""A bank has one adapter a task, each as it would be alone: a new task trains one more and touches no other."""

import json
import weakref
from itertools import pairwise

import numpy as np
import pytest

from tasks.core.records import Example
from tasks.engine import bank_training
from tasks.engine.training import job
from tasks.io import tables
from tasks.io.weights import banks, checkpoints
from tests import tiny as small
from tests.stages.trainings import digests, killed_at, of_members
from tests.stages.tune.conftest import METHODS

ANSWERS = {"yes/no": "yes, indeed", "count": "one two", "colour": "blue"}


def rows(*tasks, count=10, split="train"):
    """Examples of these tasks, in turns."""
    return [
        small.example(n, prompt=f"{task} {n}?", response=ANSWERS[task], task=task, id=f"{task}-{n}", split=split)
        for n in range(count)
        for task in tasks
    ]


@pytest.fixture
def of_tasks(inputs):
    """Put examples of these tasks into the tables of the round."""

    def put(*tasks, **options):
        tables.write(inputs["examples"], rows(*tasks, **options), Example)
        tables.write(inputs["valid"], rows(*tasks, count=2, split="valid"), Example)

    return put


@pytest.mark.parametrize("count", [0, 1, 64, 65, 127, 128, 190])
def test_a_member_is_described_by_rows_from_all_over_its_table(count):
    described = bank_training.spread(range(count))
    assert len(described) == min(count, 64)
    assert sorted(set(described)) == described
    gaps = [after - before for before, after in pairwise([*described, count])]
    assert described[:1] == [0][:count]
    assert max(gaps, default=1) <= min(gaps, default=1) + 1


def test_a_new_task_trains_one_adapter_and_touches_no_other(tune, of_tasks, tmp_path, trained):
    of_tasks("yes/no", "count")
    bank, run = tune("first", bank="task")
    before, steps = of_members(bank), len(trained)
    assert set(trained) == {"first/yes-no", "first/count"}
    assert run.said[-1] == "tune first: a bank of 2 adapters: count, yes/no"
    of_tasks("colour", "yes/no", "count")
    trained.clear()
    (tmp_path / "first" / "model").rename(tmp_path / "before")
    grown, run = tune("first", bank="task")
    assert set(trained) == {"first/colour"}
    assert 0 < len(trained) < steps
    assert {task: files for task, files in of_members(grown).items() if task != "colour"} == before
    assert sum("taken from the cache" in line for line in run.said) == 2
    assert checkpoints.weights_digest(grown) != checkpoints.weights_digest(tmp_path / "before")


def test_a_member_is_the_adapter_that_its_examples_would_train_alone(tune, of_tasks, inputs):
    of_tasks("yes/no", "count")
    bank, run = tune("bank", bank="task")
    of_tasks("count")
    alone, _ = tune("alone")
    member, without = digests(bank / "count"), digests(alone)
    assert member["adapter_model.safetensors"] == without["adapter_model.safetensors"]
    assert member["adapter_config.json"] == without["adapter_config.json"]
    courses = [json.loads((folder / "training.json").read_text()) for folder in (bank / "count", alone)]
    assert courses[0]["measured"] == courses[1]["measured"]
    whole = json.loads((bank / "training.json").read_text())
    members = [json.loads((bank / name / "training.json").read_text()) for name in ("count", "yes-no")]
    assert whole["trainable"] == sum(course["trainable"] for course in members)
    losses = [course["measured"]["validation"][-1][1] for course in members]
    counts = [course["validation_tokens"]["validation"] for course in members]
    assert whole["measured"]["validation"][-1][1] == pytest.approx(np.average(losses, weights=counts), abs=1e-5)
    assert any("count/train/loss" in values for _, values in run.metrics)


def test_one_model_is_in_memory_at_a_time(tune, of_tasks, monkeypatch):
    loaded = []

    def load(*arguments, load=job.load):
        assert [model for model in loaded if model()] == []
        model, tokenizer = load(*arguments)
        loaded.append(weakref.ref(model))
        return model, tokenizer

    monkeypatch.setattr(job, "load", load)
    of_tasks("yes/no", "count")
    tune("bank", bank="task")
    assert len(loaded) == 2


def test_what_was_interrupted_goes_on_with_the_same_bytes(tune, of_tasks, tmp_path):
    of_tasks("yes/no", "count")
    straight, _ = tune("straight", bank="task")

    with killed_at(5, "/yes-no"):
        tune("killed", bank="task")
    half = tmp_path / "killed" / "model"
    assert not (half / checkpoints.CARD).exists(), "a bank without its card is none"
    half.rename(tmp_path / "half")  # the runner clears what was not finished
    resumed, run = tune("killed", bank="task")
    steps = [step for step, values in run.metrics if step is not None]
    assert steps[0] == 5, "the first member came from the cache, the second from its checkpoint"
    assert of_members(resumed) == of_members(straight)
    assert digests_of_card(resumed) == digests_of_card(straight)


def digests_of_card(folder):
    return (folder / checkpoints.CARD).read_bytes()


def test_the_card_tells_the_bank_and_the_base_stays(tune, of_tasks, inputs, tiny):
    before = checkpoints.weights_digest(tiny)
    of_tasks("yes/no", "count")
    bank, _ = tune("bank", bank="task")
    assert checkpoints.weights_digest(tiny) == before
    assert checkpoints.is_bank(bank)
    members = banks.members(bank)
    assert {task: (member.folder, member.examples) for task, member in members.items()} == {
        "count": ("count", 10),
        "yes/no": ("yes-no", 10),
    }
    assert banks.check(bank, tiny) == {"count": bank / "count", "yes/no": bank / "yes-no"}
    card = checkpoints.read_card(bank)
    assert card["weights"] == checkpoints.weights_digest(bank)
    assert card["parent"] == before
    assert card["settings"]["tune"]["bank"] == "task"
    assert np.load(bank / "count" / banks.CENTROID).shape == (2, 4, small.load(tiny).config.hidden_size)


def test_without_a_bank_settings_are_told_as_ever(tune):
    card = checkpoints.read_card(tune()[0])
    assert not {"bank", "bank_examples"} & card["settings"]["tune"].keys()
    assert "validation_tokens" not in json.loads((tune("other")[0] / "training.json").read_text())


@pytest.mark.parametrize(
    ("settings", "methods", "message"),
    [
        ({"adapter": "none"}, {}, "without an adapter the base itself changes"),
        ({"adapter": "mola"}, {"mola": {"rank": 2, "experts": [2, 2, 3, 3]}}, "'mola' does not merge"),
        ({"adapter": "pat"}, {"pat": {}}, "'pat' makes the base narrower"),
        ({"selector": "neuroada"}, {"neuroada": {}}, "'neuroada' changes the base's weights"),
        ({"mixture": {"temperature": 2}}, {}, "tune.mixture weighs domains"),
        ({"start": {"path": "x"}}, {}, "tune.start names one adapter"),
    ],
)
def test_a_composition_without_one_base_is_refused(tune, of_tasks, settings, methods, message):
    of_tasks("count")
    with pytest.raises(ValueError, match=message):
        tune(bank="task", methods=METHODS | methods, **settings)


def test_a_task_of_too_few_examples_is_refused_by_name(tune, of_tasks, tmp_path):
    of_tasks("yes/no", "count", count=3)
    with pytest.raises(ValueError, match=r"task 'count' has 3 examples, and .* tune\.bank_examples=8"):
        tune(bank="task")
    assert not (tmp_path / "first" / "model").exists()
    tune(bank="task", bank_examples=3)


@pytest.mark.parametrize(
    ("task", "folder"),
    [
        ("qa", "qa"),
        ("call:get weather", "call-get-weather"),
        ("../up", "-.-up"),
        ("größe", "größe"),
        (".hidden", "-hidden"),
        ("日" * 80, "日" * 80),
    ],
)
def test_a_tasks_name_becomes_a_safe_folder(task, folder):
    assert banks.folder_name(task) == folder


@pytest.mark.parametrize("name", ["", "..", "///", "x" * 241, "𠀀" * 61])
def test_a_name_that_makes_no_folder_is_refused(name):
    with pytest.raises(ValueError, match="Rename it"):
        banks.folder_name(name)


@pytest.mark.parametrize("pair", [("a b", "a-b"), ("QA", "qa")])
def test_tasks_of_one_folder_are_refused(pair):
    with pytest.raises(ValueError, match=r"would both lie in the folder"):
        banks.folder_names(pair)
