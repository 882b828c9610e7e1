"""MFTCoder in training: kills and resumes, validation, and the loss by task."""

import json
import random
from dataclasses import replace

import pytest
import torch

from tasks.core.sequences import Encoded
from tasks.core.training import Moment, Training
from tasks.engine.forward import token_losses, use_packed_attention
from tasks.engine.inference import scoring
from tasks.engine.packing import Pack, collate
from tasks.engine.training import checkpointing
from tasks.engine.training import train as engine
from tasks.methods.objectives.mftcoder.config import MftcoderConfig
from tasks.methods.objectives.mftcoder.method import on_step
from tests import tiny as small
from tests.methods import contract
from tests.methods.contract import composition, part
from tests.methods.test_mftcoder import Killed


def rows(counts, seed=0, length=6):
    """Sequences of tasks of unequal size and difficulty: each task answers its prompt from a table of its own."""
    draw = random.Random(f"tables/{seed}")
    made = []
    for task, (name, count) in enumerate(counts.items()):
        table = [draw.randrange(256) for _ in range(2 + 2 * task)]
        picks = random.Random(f"{seed}/{name}")
        for number in range(count):
            keys = [picks.randrange(len(table)) for _ in range(length)]
            ids = [task, *[x for key in keys for x in (10 * (task + 1) + key, table[key])]]
            weights = [0.0, *[0.0, 1.0] * length]
            made.append(Encoded(f"{name}-{number}", ids, weights, task=name))
    return made


def parts(adapter="none", **config):
    return replace(
        composition(adapters=adapter),
        optimizer=part("optimizers", "adamw", learning_rate=3e-3),
        objective=part("objectives", "mftcoder", **config),
    )


def train(base, work, parts, plan, counts, kill_at=None):
    """What training ends in, and the weights of its steps as the last checkpoint notes them."""

    def on_step(metrics):
        if metrics.step == kill_at:
            raise Killed

    data = engine.TrainData(rows(counts), valid={"both": rows(dict.fromkeys(counts, 2))})
    outcome = engine.train(small.load(base).train(), data, parts, plan, small.FP32, work, on_step=on_step)
    return outcome, notes(work)


def notes(work):
    """The state of the objective in the last checkpoint."""
    newest = max(work.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    return json.loads((newest / checkpointing.STATE).read_text())["methods"]["objective"]


COUNTS = {"code": 10, "maths": 5, "text": 3}
PLAN = Training(pack_tokens=40, accumulation=2, max_tokens=100_000, epochs=2, warmup=0.0, save_every=2)


@pytest.mark.parametrize(
    "balance", [{"balance": "coba", "warmup": 2}, {"balance": "self_paced", "window": 2}], ids=lambda b: b["balance"]
)
def test_a_killed_run_ends_in_the_bytes_of_an_undisturbed_one(tiny, tmp_path, balance):
    config = replace(parts("lora", **balance), adapter=part("adapters", "lora", rank=4, dropout=0.2))
    straight, notes = train(tiny, tmp_path / "straight", config, PLAN, COUNTS)
    with pytest.raises(Killed):
        train(tiny, tmp_path / "killed", config, PLAN, COUNTS, kill_at=5)
    resumed, again = train(tiny, tmp_path / "killed", config, PLAN, COUNTS)
    assert len(straight.losses) > 5
    assert notes == again
    assert len(set(notes["task_weights"])) > 1
    assert resumed.losses == straight.losses
    for found, wanted in zip(resumed.model.parameters(), straight.model.parameters(), strict=True):
        assert torch.equal(found, wanted)


def test_tasks_that_are_only_looked_at_have_no_weight(tiny, tmp_path):
    """A probe of general text, and a held-out task that no example trains."""
    seen = engine.TrainData(rows(COUNTS), {"all": rows({**COUNTS, "prose": 2})}, rows({"general": 2}))
    fewer = engine.TrainData(rows(COUNTS), {"all": rows(COUNTS)}, rows({"code": 2}))
    weights, balance = [], {"balance": "self_paced", "window": 2, "valid_batches": 20}
    for number, data in enumerate((seen, fewer)):
        work = tmp_path / str(number)
        engine.train(small.load(tiny).train(), data, parts(**balance), PLAN, small.FP32, work)
        weights.append(notes(work)["task_weights"])
    assert len(set(weights[0])) == 3
    assert weights[0] == weights[1]


def test_looking_at_validation_leaves_no_trace(tiny):
    model = small.load(tiny).train()
    use_packed_attention(model)
    model.model.layers[0].eval()  # a mode of its own
    modes = [module.training for module in model.modules()]
    names = tuple(sorted(COUNTS))
    batches = [collate([Pack(tuple(rows(dict.fromkeys(names, 2))))], names)]
    valid = contract.looking(batches, names)
    torch.manual_seed(0)
    before, generator = [p.detach().clone() for p in model.parameters()], torch.get_rng_state()
    state = {}
    on_step(Moment(0, 1000, 0, model, None, None, valid, valid, state), MftcoderConfig(balance="coba"))
    assert [module.training for module in model.modules()] == modes
    assert all(p.grad is None for p in model.parameters())
    assert all(map(torch.equal, model.parameters(), before))
    assert torch.equal(torch.get_rng_state(), generator)
    nll, tasks = token_losses(model.eval(), batches[0]), batches[0]["tasks"][0][batches[0]["labels"][0] >= 0]
    assert state["start"] == pytest.approx([nll[tasks == task].mean().item() for task in range(3)], rel=1e-5)


def test_fixed_weights_reach_the_loss(tiny, tmp_path):
    # One step: the logged loss is the mean over tasks, weighed.
    plan = PLAN.model_copy(update={"accumulation": 3, "epochs": 1, "pack_tokens": 256})
    found = {}
    for name, weights in {"equal": {}, "maths": {"maths": 1e6}}.items():
        outcome, _ = train(tiny, tmp_path / name, parts(task_weights=weights), plan, COUNTS)
        assert len(outcome.losses) == 1
        found[name] = outcome.losses[0][2]
    model = small.load(tiny).eval()
    own = {
        task: scoring.mean(scoring.losses(model, [row for row in rows(COUNTS) if row.task == task])) for task in COUNTS
    }
    assert found["maths"] == pytest.approx(own["maths"], rel=1e-4)
    assert found["equal"] == pytest.approx(sum(own.values()) / 3, rel=1e-5)


# The card's experiment in small: tasks of 10 : 3 : 1, the smallest the hardest, equal steps.
UNEQUAL = {"a": 20, "b": 6, "c": 2}


def unequal(base, work, epochs, **config):
    """The held-out loss of each task after training on all, and the last weights where there are any."""
    plan = Training(pack_tokens=400, max_tokens=10**6, epochs=epochs, warmup=0.0, save_every=1000)
    outcome, notes = train(base, work, parts(**config), plan, UNEQUAL)
    held_out = {
        task: [row for row in rows(dict.fromkeys(UNEQUAL, 8), length=7) if row.task == task] for task in UNEQUAL
    }
    inner = outcome.model.eval()
    return {task: scoring.mean(scoring.losses(inner, held)) for task, held in held_out.items()}, notes


def test_balanced_tasks_end_lower_on_average_and_the_smallest_gains_most(tiny, tmp_path):
    after = {case: unequal(tiny, tmp_path / case, 25, aggregation=case)[0] for case in ("case1", "case3")}
    gains = {task: after["case1"][task] - after["case3"][task] for task in UNEQUAL}
    assert sum(gains.values()) > 0
    assert max(gains, key=gains.get) == "c"


def test_the_worst_task_ends_no_worse_by_coba_than_by_equal_weights(tiny, tmp_path):
    # Here all tasks fall at about one speed, so little is shifted; docs/claims has a run in which more was.
    equal, _ = unequal(tiny, tmp_path / "equal", 40)
    found, notes = unequal(tiny, tmp_path / "coba", 40, balance="coba", warmup=6, history=30)
    assert max(equal, key=equal.get) == "c"
    assert len(set(notes["task_weights"])) == 3
    assert found["c"] <= equal["c"]
