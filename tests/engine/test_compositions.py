"""Kinds of methods work alone and together: each composition learns, and killed at step 17 of 40 it ends in the same bytes."""

import hashlib
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save

from tasks.core.training import Training
from tasks.engine.training import train as engine
from tasks.io.weights import checkpoints
from tests import tiny as small
from tests.methods.contract import composition, part

PLAN = Training(
    pack_tokens=48, accumulation=1, max_tokens=100_000, epochs=4, warmup=0.1, save_every=8, valid_tokens=100
)
SEQUENCES = [
    small.paired(replace(sequence, task=("code", "text")[number % 3 == 0]))
    for number, sequence in enumerate(small.sequences(32, seed=4))
]
COMPOSITIONS = {
    "full": {},
    "lora": {"adapters": "lora"},
    "loldu": {"adapters": "loldu"},
    "mola": {"adapters": "mola"},
    "mixda": {"adapters": "mixda"},
    "dept": {"adapters": "dept"},
    "corda": {"adapters": "corda"},
    "loca": {"adapters": "loca"},
    "soka": {"adapters": "soka"},
    "binadapter": {"adapters": "binadapter"},
    "biadaptformer": {"adapters": "biadaptformer"},
    "pat": {"adapters": "pat"},
    "lokr": {"adapters": "lokr"},
    "mhr": {"adapters": "mhr"},
    "sherl": {"adapters": "sherl"},
    "mosa × consistency": {"adapters": "mosa", "objectives": "consistency"},
    "mosl × consistency": {"adapters": "mosl", "objectives": "consistency"},
    "s2ft": {"selectors": "s2ft"},
    "lisa": {"selectors": "lisa"},
    "kappatune": {"selectors": "kappatune"},
    "neuroada": {"selectors": "neuroada"},
    "spiel": {"selectors": "spiel"},
    "spiel ma": {"selectors": "spiel"},
    "cofitune tiled": {"selectors": "cofitune"},
    "locft_bf": {"selectors": "locft_bf"},
    "cofitune": {"selectors": "cofitune"},
    "adept": {"expanders": "adept"},
    "mezo": {"optimizers": "mezo"},
    "mftcoder": {"objectives": "mftcoder"},
    "fait × full": {"objectives": "fait"},
    "fait × lora": {"adapters": "lora", "objectives": "fait"},
    "fait × s2ft": {"selectors": "s2ft", "objectives": "fait"},
    "fait × mezo": {"optimizers": "mezo", "objectives": "fait"},
    "lora × mezo": {"adapters": "lora", "optimizers": "mezo"},
    "zo2": {"optimizers": "zo2"},
    "lora × zo2": {"adapters": "lora", "optimizers": "zo2"},
    "lora × lisa": {"adapters": "lora", "selectors": "lisa"},
    "lora × ist": {"adapters": "lora", "selectors": "ist"},
    "mola × ist": {"adapters": "mola", "selectors": "ist"},
    "lora × kappatune": {"adapters": "lora", "selectors": "kappatune"},
    "s2ft × mftcoder": {"selectors": "s2ft", "objectives": "mftcoder"},
    "adept × lisa": {"expanders": "adept", "selectors": "lisa"},
    "nf4 × lora": {"bases": "nf4", "adapters": "lora"},
    "lora × lemo": {"adapters": "lora", "sparsifiers": "lemo"},
}
HALF = [
    "lora",
    "loldu",
    "mola",
    "dept",
    "corda",
    "loca",
    "soka",
    "binadapter",
    "biadaptformer",
    "pat",
    "mhr",
    "mosl × consistency",
    "sherl",
    "lisa",
    "spiel",
    "adept",
    "mezo",
    "fait × lora",
    "s2ft × mftcoder",
    "nf4 × lora",
    "lora × lemo",
]
"""Those tried in bf16 too: each kind of method once."""
DEARER = {"accumulation": 2, "epochs": 8, "workers": 2}
"""Two packs a step, which two other processes load. It takes three times as long, and has to do with no method: two are tried so."""
TRIED_SO = ("lora", "mftcoder")
WEIGHING = {
    "fait × full": {"weighting": "schedule", "placement": "random"},
    "fait × mezo": {"refresh_every": 5},  # two passes of a step must weigh alike
}
"""Settings of FAIT, where its defaults, margins in every step, are not what is tried."""
SELECTING = {"spiel ma": {"criterion": "ma"}, "cofitune tiled": {"mask": "official_tiled"}}
"""Settings of selectors that are tried beside their defaults."""
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
"""What may train where an MLP keeps few of its columns."""
RATES = {"mezo": 1e-3, "zo2": 1e-3, "fait × mezo": 1e-3, "lora × mezo": 1e-2, "lora × zo2": 1e-2, "loldu": 3e-2}
"""Learning rates that show within 40 steps that something was learnt, where 1e-2 does not."""


def parts(name):
    optimizer = COMPOSITIONS[name].get("optimizers", "adamw")
    chosen = composition(**COMPOSITIONS[name])
    if name in WEIGHING:
        chosen = replace(chosen, objective=part("objectives", "fait", **WEIGHING[name]))
    if name in SELECTING:
        chosen = replace(chosen, selector=part("selectors", chosen.selector.name, **SELECTING[name]))
    if "sparsifiers" in COMPOSITIONS[name]:
        chosen = replace(
            chosen,
            adapter=part("adapters", "lora", rank=4, targets=ATTENTION),
            sparsifier=part("sparsifiers", "lemo", blocks="random"),  # which draws anew in each step
        )
    return replace(
        chosen,
        optimizer=part("optimizers", optimizer, learning_rate=RATES.get(name, 1e-2)),
    )


def train(base, work, name, compute=small.FP32, killed=None):
    """What training the model in `base` ends in. `killed` gets the files that a process leaves which is killed at step 17."""
    chosen = parts(name)
    model, _ = checkpoints.load(base, quantization=chosen.base.method.quantization(chosen.base.config))

    def on_step(metrics):
        assert metrics.steps == 40
        if killed and metrics.step == 17:
            shutil.copytree(work, killed)

    data = engine.TrainData(SEQUENCES, {"valid": SEQUENCES[:6]}, small.sequences(4, seed=5))
    plan = PLAN.model_copy(update=DEARER if name in TRIED_SO else {})
    return engine.train(model.train(), data, chosen, plan, compute, work, on_step=on_step)


def digest(outcome):
    """The SHA-256 of everything that may have moved, as safetensors: places of sparse deltas are among what is kept."""
    held = {**outcome.attached.trainable, **outcome.attached.kept}
    tensors = {name: tensor.detach().contiguous() for name, tensor in held.items()}
    return hashlib.sha256(save(tensors)).hexdigest()


def learnt(outcome):
    """Whether the last steps lose less than the first ones."""
    losses = [loss for _, _, loss in outcome.losses]
    return sum(losses[-8:]) < sum(losses[:8])


@pytest.mark.parametrize(
    ("name", "compute"),
    [(name, small.FP32) for name in COMPOSITIONS] + [(name, small.BF16) for name in HALF],
    ids=lambda value: getattr(value, "precision", value),
)
def test_killed_at_step_17_it_ends_in_the_bytes_of_40_straight_steps(tiny, tmp_path, name, compute):
    straight = train(tiny, tmp_path / "straight", name, compute, tmp_path / "killed")
    assert (tmp_path / "killed/checkpoint-16").is_dir()
    resumed = train(tiny, tmp_path / "killed", name, compute)
    assert digest(resumed) == digest(straight)
    assert resumed.losses == straight.losses
    assert resumed.active == straight.active
    assert learnt(straight), "equal bytes would prove little"
    assert {parameter.dtype for parameter in straight.attached.trainable.values()} == {torch.float32}
