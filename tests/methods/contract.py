"""What the contract tests of all families share.

A method's own test file may say, for them: `SMALL`, settings that differ from the defaults so that a tiny model shows the
method's effect; `trainable(model, config)`, the card's count of what trains on `model` before anything is attached;
`TOLERANCE`, how far a fresh model may be from the base where equality to the bit is not promised; `STEPS`, the number in which all that
trains has moved, where two are too few.
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
    """A model of random weights: the tiny LLaMA that is on disk, a Qwen2 with grouped heads and biases, or a GPT-2."""
    make = {"llama": lambda: small.load(tiny), "qwen2": small.qwen2, "gpt2": small.gpt2}[kind]
    made = make()
    for parameter in made.parameters():
        parameter.data = parameter.data.to(
            dtype
        )  # not `made.to`: the angles of positions stay in fp32, as in a loaded model
    return made


def named(dtype):
    """What settings call a dtype."""
    return str(dtype).removeprefix("torch.")


def said(name, what, default=None):
    """What the test file of a method says of it."""
    if not (Path(__file__).parent / f"test_{name}.py").exists():
        return default
    return getattr(importlib.import_module(f"tests.methods.test_{name}"), what, default)


def part(family, name=None, **overrides):
    """A method with the settings of its test file, or with these."""
    chosen = name or NEUTRAL[family]
    spec = methods.spec(family, chosen)
    config = spec.config(**(said(name, "SMALL", {}) if name else {}) | overrides)
    return Part(chosen, spec, methods.load(family, chosen), config)


def composition(**names):
    """Neutral parts but for these: `composition(adapters="lora")`."""
    return Composition(*(part(family, names.get(family)) for family in FAMILIES))


def batch(seed=1):
    return collate([Pack(tuple(small.sequences(3, seed=seed)))])


def probe():
    """One row to look at."""
    return looking([batch(2)])


def looking(batches, *tasks):
    """A probe of these rows."""
    return Probe(
        batches,
        lambda wrapped, row: token_losses(plain(wrapped), row),
        lambda wrapped, row: token_logits(plain(wrapped), row),
        *tasks,
    )


def attached(method, wrapped):
    """A model with an adapter alone, fresh; the adapter may look at the probe."""
    use_packed_attention(plain(wrapped))
    return method.method.attach(wrapped, method.config, Start(probe()))


def composed(wrapped, parts, *, hasty=False):
    """A model with its parts, and an optimizer over what trains; a hasty one takes steps that bf16 can tell from none."""
    attached = compose.compose(wrapped, parts, probe(), seed=0)
    optimizer = parts.optimizer.method.make(compose.groups(attached, parts), parts.optimizer.config, 0)
    for group in optimizer.param_groups:
        group["lr"] *= 20 if hasty else 1
    return attached, optimizer


@torch.no_grad()
def losses(wrapped):
    """The token losses of the plain model inside."""
    inner = plain(wrapped)
    use_packed_attention(inner)
    return token_losses(inner.eval(), batch())


def steps(attached, optimizer, parts, count=None):
    """A few optimizer steps on one row; two at least, since what starts at zero moves one half at a time. They begin a training of three at least.

    Returns the names of the parameters that moved.
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
