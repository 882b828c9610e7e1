"""Rewards of held-out answers are those of the objective's equations, by TRL's names, and a training reports them at each validation."""

from dataclasses import replace

import pytest
import torch

from tasks.core.training import Training
from tasks.engine.encode import ExampleEncoder
from tasks.engine.training import telemetry, validation
from tasks.engine.training import train as engine
from tasks.engine.training.batches import lay_out
from tasks.engine.training.reference import with_reference
from tasks.methods import names
from tasks.stages.fetch.random_init import byte_tokenizer
from tests import tiny as small
from tests.engine.training.test_train import PLAN, SEQUENCES, change
from tests.methods import preferences
from tests.methods.contract import composition, part
from tests.support import ScratchRun

OBJECTIVES = ("dpo", "kto", "orpo", "simpo")
ROWS = [small.example(number, response=f"good {number}", rejected="bad") for number in range(6)]


def encoded(rows, objective):
    """Judged answers as the objective encodes them."""
    encoder = ExampleEncoder(byte_tokenizer(), 96, objective=objective)
    return [sequence for row in rows for sequence in encoder(row).sequences]


def log_p(model, answer):
    """log p of the trained tokens of a sequence, by a plain forward pass."""
    logits = model(input_ids=torch.tensor([answer.ids])).logits[0, :-1].double().log_softmax(-1)
    return sum(
        logits[place - 1, answer.ids[place]].item() for place, weight in enumerate(answer.weights) if weight and place
    )


def expected_rewards(name, sides, model, reference):
    """The rewards of answers by the papers' equations with the weights of the tests."""
    if name in ("dpo", "kto"):
        return [0.5 * (log_p(model, side) - log_p(reference, side)) for side in sides]
    return [0.5 * log_p(model, side) / side.num_trained for side in sides]


def config_of(name):
    return {"weight": 0.5} if name == "orpo" else {"beta": 0.5}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_rewards_are_those_of_the_equations(tmp_path, name):
    objective, model, reference = part("objectives", name, **config_of(name)), *map(preferences.model, (0.0, 0.5))
    pairs = [replace(pair, id=f"pair-{number}") for number, pair in enumerate(preferences.pairs())]
    pairs = [replace(pair, auxiliary=(replace(pair.auxiliary[0], id=pair.id),)) for pair in pairs]
    chosen = expected_rewards(name, pairs, model, reference)
    rejected = expected_rewards(name, [pair.auxiliary[0] for pair in pairs], model, reference)
    judged = with_reference(reference, pairs, {}, small.FP32, tmp_path) if objective.spec.reference else pairs
    found = validation.rewards(model, judged, objective, small.FP32)
    wins = [better > worse for better, worse in zip(chosen, rejected, strict=True)]
    assert found == pytest.approx(
        {
            "rewards/chosen": sum(chosen) / 3,
            "rewards/rejected": sum(rejected) / 3,
            "rewards/margins": (sum(chosen) - sum(rejected)) / 3,
            "rewards/accuracies": sum(wins) / 3,
        },
        rel=1e-5,
        abs=1e-6,  # a reward is a difference of sums of float32 log-probabilities, so its error does not shrink with it
    )
    assert 0 < sum(wins) < 3, "both outcomes are among the pairs"


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_on_pairs_judges_the_same_answers(tiny, name):
    """Pairs are auxiliary sequences of dpo and single sequences of kto, and both have an accuracy."""
    judged = encoded(ROWS, part("objectives", name))
    found = validation.rewards(small.load(tiny), judged, part("objectives", name), small.FP32)
    assert set(found) == {"rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies"}
    assert len({sequence.id for sequence in judged}) == len(ROWS)


def test_single_judgements_have_a_margin_and_no_accuracy(tiny):
    rows = [small.example(number, response=f"answer {number}", desirable=number % 2 == 0) for number in range(4)]
    kto = part("objectives", "kto")
    judged = encoded(rows, kto)
    found = validation.rewards(small.load(tiny), judged, kto, small.FP32)
    assert set(found) == {"rewards/chosen", "rewards/rejected", "rewards/margins"}


def test_objectives_without_rewards_and_data_without_judgements_have_none(tiny):
    plain = [small.example(number) for number in range(3)]
    for name in names("objectives"):
        objective = part("objectives", name)
        assert (objective.method.reward is not None) == (name in OBJECTIVES)
        if name in OBJECTIVES:
            assert encoded(plain, objective) == []
    assert validation.rewards(small.load(tiny), [], part("objectives", "dpo"), small.FP32) == {}


def test_level_answers_are_no_preference(tiny, tmp_path):
    dpo, model = part("objectives", "dpo"), small.load(tiny)
    judged = encoded(ROWS, dpo)
    found = validation.rewards(model, with_reference(model, judged, {}, small.FP32, tmp_path), dpo, small.FP32)
    assert found["rewards/accuracies"] == 0
    assert found["rewards/margins"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("save_every", [0, 2])
def test_a_training_reports_them_with_each_validation_and_they_grow(tiny, tmp_path, save_every):
    dpo = part("objectives", "dpo", beta=0.5)
    training = small.stored(ROWS, ExampleEncoder(byte_tokenizer(), 96, objective=dpo), ScratchRun(tmp_path))
    model = small.load(tiny)
    known = with_reference(model, training, {}, small.FP32, tmp_path)
    parts = replace(composition(), objective=dpo, optimizer=part("optimizers", "adamw", learning_rate=1e-3))
    plan = Training(pack_tokens=96, max_tokens=10_000, epochs=8, warmup=0.0, save_every=save_every, validate_every=4)
    reported = {}
    result = engine.train(
        model.train(),
        engine.TrainData(known, {"validation": known}, judged=known),
        parts, plan, small.FP32, tmp_path / "work", on_validation=reported.__setitem__,
    )  # fmt: skip
    steps = sorted(reported)
    assert steps[-1] == len(result.losses)
    assert {4, 8} < set(steps)
    assert reported[steps[-1]]["rewards/accuracies"] == 1
    assert reported[steps[-1]]["rewards/margins"] > reported[4]["rewards/margins"] > 0
    assert list(result.measured) == ["validation"], "no output holds them"


def test_looking_at_answers_changes_no_weight(tiny, tmp_path):
    simpo = part("objectives", "simpo")
    training = small.stored(ROWS, ExampleEncoder(byte_tokenizer(), 96, objective=simpo), ScratchRun(tmp_path))
    parts, plan = replace(composition(), objective=simpo), change(PLAN, pack_tokens=96, validate_every=1)

    def weights(judged):
        data = engine.TrainData(training, judged=judged)
        work = tmp_path / str(len(judged))
        result = engine.train(small.load(tiny).train(), data, parts, plan, small.FP32, work)
        return torch.cat([tensor.detach().flatten() for tensor in result.attached.trainable.values()])

    assert torch.equal(weights(()), weights(training))


def test_the_answers_count_in_what_validation_may_cost():
    batches = lay_out(SEQUENCES, ("",), (), change(PLAN, epochs=20, max_tokens=10**6))
    plan = Training(pack_tokens=48)
    short, long = ([preferences.sequence([1], [2] * tokens)] for tokens in (50, 100))
    both = [replace(short[0], auxiliary=(preferences.sequence([1], [3] * 49),))]
    every = [validation.interval(plan, batches, {}, judged) for judged in (short, long, both)]
    assert 0 < every[0] < every[1] == every[2]


def test_mlflow_has_them_under_trls_names(tmp_path):
    run = ScratchRun(tmp_path)
    values = {"validation": 2.0, "rewards/accuracies": 0.75, "rewards/margins": 0.25}
    telemetry.Telemetry(run, {}).on_validation(3, values)
    assert run.metrics == [(3, {"valid/loss": 2.0, "valid/rewards/accuracies": 0.75, "valid/rewards/margins": 0.25})]
