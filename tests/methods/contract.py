"""Helpers that the contract tests of all families share.

The test file of a method may define for them:

- `SMALL`: settings that differ from the defaults so that a tiny model shows the method's effect;
- `trainable(model, config)`: the card's count of trained parameters on `model` before anything is attached;
- `TOLERANCE`: the largest difference between a fresh model and the base, if equality to the bit is not promised;
- `STEPS`: the number of steps after which all trained parameters have moved, if two are too few.
"""

import importlib
from pathlib import Path

import torch

from tasks import methods
from tasks.core.training import FAMILIES, Moment, Probe, Start
from tasks.core.weights.surgery import plain
from tasks.engine.forward import token_logits, token_losses, use_packed_attention
from tasks.engine.packing import Pack, collate
from tasks.engine.training import compose
from tasks.engine.training.compose import Composition, Part
from tests import tiny as small

MODELS = ["llama", "qwen2"]
DTYPES = [torch.float32, torch.bfloat16]
NEUTRAL = {
    "bases": "none",
    "expanders": "none",
    "adapters": "none",
    "selectors": "all",
    "optimizers": "adamw",
    "objectives": "cross_entropy",
    "sparsifiers": "none",
}


def model(kind, tiny, dtype=torch.float32):
    """Return a model of random weights: the tiny LLaMA on disk, a Qwen2 with grouped heads and biases, or a GPT-2."""
    make = {"llama": lambda: small.load(tiny), "qwen2": small.qwen2, "gpt2": small.gpt2}[kind]
    made = make()
    for parameter in made.parameters():
        parameter.data = parameter.data.to(
            dtype
        )  # not `made.to`: the angles of positions stay in fp32, as in a loaded model
    return made


def named(dtype):
    """Return the name of a dtype in settings."""
    return str(dtype).removeprefix("torch.")


def said(name, what, default=None):
    """Return what the test file of a method defines under `name`."""
    if not (Path(__file__).parent / f"test_{name}.py").exists():
        return default
    return getattr(importlib.import_module(f"tests.methods.test_{name}"), what, default)


def part(family, name=None, **overrides):
    """Return a method with the given settings, or with those of its test file."""
    chosen = name or NEUTRAL[family]
    spec = methods.spec(family, chosen)
    config = spec.config(**(said(name, "SMALL", {}) if name else {}) | overrides)
    return Part(chosen, spec, methods.load(family, chosen), config)


def composition(**names):
    """Return a composition of neutral parts except for those given: `composition(adapters="lora")`."""
    return Composition(*(part(family, names.get(family)) for family in FAMILIES))


def batch(seed=1):
    return collate([Pack(tuple(small.sequences(3, seed=seed)))])


def probe():
    """A row for looks."""
    return looking([batch(2)])


def looking(batches, *tasks):
    """Return a probe of these rows."""
    return Probe(
        batches,
        lambda wrapped, row: token_losses(plain(wrapped), row),
        lambda wrapped, row: token_logits(plain(wrapped), row),
        *tasks,
    )


def attached(method, wrapped):
    """Return a model with a fresh adapter and no other part. The adapter may look at the probe."""
    use_packed_attention(plain(wrapped))
    return method.method.attach(wrapped, method.config, Start(probe()))


def composed(wrapped, parts, *, hasty=False):
    """Return a model with its parts, and an optimizer of the trained parameters. A hasty optimizer takes steps that are large enough to change bf16 weights."""
    attached = compose.compose(wrapped, parts, probe(), seed=0)
    optimizer = parts.optimizer.method.make(compose.groups(attached, parts), parts.optimizer.config, 0)
    for group in optimizer.param_groups:
        group["lr"] *= 20 if hasty else 1
    return attached, optimizer


@torch.no_grad()
def losses(wrapped):
    """Return the token losses of the plain model inside."""
    inner = plain(wrapped)
    use_packed_attention(inner)
    return token_losses(inner.eval(), batch())


def steps(attached, optimizer, parts, count=None):
    """Take optimizer steps on one row and return the names of the parameters that moved.

    At least two steps: if one of two factors starts at zero, the other factor does not move in the first step. The methods are told that the
    training has at least three steps.
    """
    count = count or said(parts.adapter.name, "STEPS", 2)
    inner = plain(attached.model).train()
    before = {name: parameter.detach().clone() for name, parameter in attached.model.named_parameters()}
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
    states = {kind: {} for kind, _ in compose.hooks(parts)}
    for step in range(count):
        for kind, hooked in compose.hooks(parts):
            moment = Moment(
                step,
                max(count, 3),
                0,
                attached.model,
                optimizer,
                scheduler,
                probe(),
                probe(),
                states[kind],
                compose.linear(attached, parts),
            )
            hooked.method.on_step(moment, hooked.config)
        optimizer.zero_grad()
        if parts.optimizer.spec.gradient_free:
            with torch.no_grad():
                optimizer.estimate(lambda: inner(**batch())["loss"])
        else:
            inner(**batch())["loss"].backward()
        optimizer.step()
    if parts.optimizer.spec.streams:
        optimizer.settle()
    return {name for name, p in attached.model.named_parameters() if not torch.equal(p, before[name])}
