"""MeZO through the engine, on a tiny model that has learnt to answer y or n, and does not know which.

It stands for a prompted task on a pretrained model, which takes an hour: `benchmarks/prompted.py`, with its figures in
`docs/claims/mezo.json`.
"""

from dataclasses import replace

import pytest
import torch

from tasks.core.records import Message
from tasks.core.training import Group, Training
from tasks.engine import encode
from tasks.engine.inference import generation
from tasks.engine.training import checkpointing
from tasks.engine.training import train as engine
from tasks.io.weights import checkpoints
from tasks.methods.optimizers.mezo.config import MezoConfig
from tasks.methods.optimizers.mezo.method import make
from tests import tiny as small
from tests.methods.contract import composition, part
from tests.methods.test_mezo import SMALL


class Killed(Exception):
    """The process went away at this step."""


QUESTIONS = [f"Is {number} even?" for number in range(8)]


def answers(folder, said):
    """The questions, answered as `said` has it."""
    rows = [small.example(n, prompt=question, response=said(n)) for n, question in enumerate(QUESTIONS)]
    return list(encode.examples(rows, checkpoints.load_tokenizer(folder), 256))


def plan(**config):
    return Training(
        **{"pack_tokens": 256, "warmup": 0, "schedule": "constant_with_warmup", "save_every": 1000} | config
    )


def parts(adapter, objective="cross_entropy", **config):
    return replace(
        composition(adapters=adapter, objectives=objective), optimizer=part("optimizers", "mezo", **config or SMALL)
    )


@pytest.fixture(scope="module")
def primed(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("primed")
    adamw = replace(composition(), optimizer=part("optimizers", "adamw", learning_rate=3e-3))
    rows = answers(tiny, lambda n: "yn"[n % 2])
    data = engine.TrainData(rows)
    outcome = engine.train(small.load(tiny).train(), data, adamw, plan(epochs=24), small.FP32, folder / "work")
    outcome.model.save_pretrained(folder)
    checkpoints.load_tokenizer(tiny).save_pretrained(folder)
    return folder


def written(answering, tokenizer):
    """What the model answers."""
    prompts = [[Message("user", question)] for question in QUESTIONS]
    return generation.write(answering, prompts, tokenizer, max_new_tokens=2, batch_size=8)


def rarer(primed):
    """The answer that the model gives less often."""
    given = written(*checkpoints.load(primed))
    assert set(given) <= {"y", "n"}
    return min("yn", key=given.count)


def train(base, work, parts, plan, answer="y", kill_at=None):
    """What training on one answer ends in, and its optimizer."""
    made = []

    def on_step(metrics):
        assert metrics.gradient_norm is None
        if metrics.step == kill_at:
            raise Killed

    def keeping(*arguments):
        made.append(make(*arguments))
        return made[-1]

    method = replace(parts.optimizer.method, make=keeping)
    parts = replace(parts, optimizer=replace(parts.optimizer, method=method))
    data = engine.TrainData(answers(base, lambda _: answer))
    outcome = engine.train(small.load(base).train(), data, parts, plan, small.FP32, work, on_step=on_step)
    return outcome, made[0]


EASY = {"none": {"learning_rate": 1e-3}, "lora": {"learning_rate": 1e-2, "eps": 1e-2, "directions": 4}}


@pytest.mark.parametrize("adapter", EASY)
def test_the_loss_of_an_easy_task_falls(primed, tmp_path, adapter):
    outcome, mezo = train(primed, tmp_path, parts(adapter, **EASY[adapter]), plan(epochs=20))
    losses = [loss for _, _, loss in outcome.losses]
    assert sum(losses[-5:]) < 0.95 * sum(losses[:5])
    assert mezo.course["skipped"] == 0


def test_training_keeps_no_graph_no_gradient_and_no_tensor_of_state(primed, tmp_path):
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: saved.append(tensor.shape) or tensor, lambda tensor: tensor
    ):
        outcome, mezo = train(primed, tmp_path, parts("none"), plan(epochs=3))
    assert saved == []
    assert all(p.grad is None for p in outcome.model.parameters())
    assert list(mezo.state) == ["course"]
    assert not any(isinstance(value, torch.Tensor) for move in mezo.course["log"] for value in move.values())


@pytest.mark.parametrize("adapter", ["none", "lora"])
def test_a_killed_run_ends_in_the_bytes_of_an_undisturbed_one(primed, tmp_path, adapter):
    course = plan(epochs=8, accumulation=2, pack_tokens=64, max_tokens=800, save_every=2, schedule="cosine")
    straight, mezo = train(primed, tmp_path / "straight", parts(adapter), course)
    with pytest.raises(Killed):
        train(primed, tmp_path / "killed", parts(adapter), course, kill_at=4)
    assert (tmp_path / "killed" / "checkpoint-2" / checkpointing.COMPLETE).exists()
    resumed, again = train(primed, tmp_path / "killed", parts(adapter), course)
    assert len(straight.losses) > 5
    assert resumed.losses == straight.losses
    assert again.course == mezo.course
    for found, wanted in zip(resumed.model.parameters(), straight.model.parameters(), strict=True):
        assert torch.equal(found, wanted)


SCORE = {"learning_rate": 3e-4, "eps": 1e-2}
"""A score moves in jumps, so it is looked at from farther off."""


def test_a_score_without_gradient_improves(primed, tmp_path):
    outcome, _ = train(primed, tmp_path, parts("none", "exact_match", **SCORE), plan(epochs=30), rarer(primed))
    failed = [loss for _, _, loss in outcome.losses]
    assert all((16 * share) % 1 == pytest.approx(0) for share in failed)  # means of two scores over eight examples
    assert failed[0] > 0.4
    assert sum(failed[-5:]) / 5 < 0.15


def test_the_accuracy_of_what_a_model_writes_can_be_trained(primed):
    wanted = rarer(primed)
    answering, tokenizer = checkpoints.load(primed)

    def accuracy():
        return written(answering, tokenizer).count(wanted) / len(QUESTIONS)

    before = accuracy()
    mezo = make([Group("all", list(answering.parameters()))], MezoConfig(**SCORE), seed=0)
    for _ in range(20):
        mezo.step(lambda: -accuracy())
    assert before <= 0.5
    assert accuracy() > 0.85
