"""The records that methods are given of a training: its config, the groups of an optimizer, a probe, and the moment before a step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from tasks.core.config import Config

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

FAMILIES = ("bases", "expanders", "adapters", "selectors", "optimizers", "objectives", "sparsifiers")
"""The families that a training composes, in the order in which they act on a model. A setting is called like its family, in
the singular."""


TrainOn = Literal["all", "last"]
"""The answers of a conversation that train: each of the assistant's, or its last."""


def in_words(parts: Iterable[str]) -> str:
    """The methods of a composition, without those that change nothing."""
    return " × ".join(name for name in parts if name not in ("none", "all"))


class Training(Config):
    """One composition of methods and the plan of its training; stages that train extend it."""

    base: str = "none"
    """A folder of `tasks/methods/bases`: how frozen weights are stored."""
    expander: str = "none"
    """A folder of `tasks/methods/expanders`."""
    adapter: str = "lora"
    """A folder of `tasks/methods/adapters`."""
    selector: str = "all"
    """A folder of `tasks/methods/selectors`."""
    optimizer: str = "adamw"
    """A folder of `tasks/methods/optimizers`."""
    objective: str = "cross_entropy"
    """A folder of `tasks/methods/objectives`."""
    sparsifier: str = Field("none", exclude_if=lambda name: name == "none")
    """A folder of `tasks/methods/sparsifiers`: what a step leaves out of its passes. `none` is in no output, and so left out where settings are
    written."""
    max_tokens: int = Field(40_000, ge=1)
    """Training ends after this many tokens, prompts included."""
    epochs: int = Field(1, ge=1)
    """Passes over the data, if `max_tokens` allows."""
    pack_tokens: int = Field(1024, ge=16)
    """Tokens of a pack. An example that no pack can hold is left out and counted."""
    accumulation: int = Field(1, ge=1)
    """Packs of one optimizer step."""
    warmup: float = Field(0.1, ge=0, le=1)
    """Share of the steps in which the learning rate rises from 0."""
    schedule: Literal["constant_with_warmup", "linear", "cosine"] = "cosine"
    """How the learning rate falls after that."""
    clip: float = Field(1.0, gt=0)
    """Largest norm of a step's gradient."""
    valid_tokens: int = Field(6_000, ge=0)
    """Validation loss is measured on about this many tokens."""
    save_every: int = Field(20, ge=0)
    """Steps between checkpoints; an interrupted run continues from the last one. With 0 there are none."""
    validate_every: int | None = Field(None, ge=0, exclude=True)
    """Steps between validation losses for MLflow and the console, beside those at checkpoints. Without a number as often as takes
    less than 5 % of the training's time; with 0 at checkpoints only. In no output, and so left out where settings are written."""
    workers: int = Field(0, ge=0)
    """Processes that load data."""
    activation_checkpointing: bool = Field(False, exclude=True)
    """True if every decoder layer keeps its input alone for the backward pass, and is computed again there: less memory, a third more
    time, the same bytes. In no output, and so left out where settings are written."""
    seed: int = 0
    """Of the order of the data, of new weights and of dropout."""
    floor: float = Field(0.0, ge=0)
    """Loss below which a step is left out: nothing is run backward, and neither weights nor the optimizer's state move. 0 leaves
    out none."""


class SavedAdapter(Config):
    """The adapter that a training starts from, in place of a new one. It is of the same base, method and settings."""

    path: str
    """The folder that stage `tune` wrote it to, or a copy."""
    digest: str = ""
    """The hash of what the folder holds: DVC does not watch it, so a changed adapter has to be a changed setting. The stage says it
    where it is missing or another."""


def parts(section: str) -> dict[str, str]:
    """For a stage's declaration: family → the setting of `section` that names one of its methods."""
    return {family: f"{section}.{family.removesuffix('s')}" for family in FAMILIES}


@dataclass(frozen=True)
class Group:
    """Parameters that an optimizer treats alike."""

    name: str
    parameters: Sequence[nn.Parameter]
    rate: float = 1.0
    """Times the optimizer's learning rate."""
    decay: bool = True
    """Whether weight decay applies."""


@dataclass(frozen=True)
class Probe:
    """A few batches that a method may look at."""

    batches: Sequence[Mapping[str, Tensor]]
    """Packed rows as the engine makes them."""
    losses: Callable[[nn.Module, Mapping[str, Tensor]], Tensor]
    """Negative log-likelihood of each trained token of a batch under a model in nats, (N,), with its graph."""
    logits: Callable[[nn.Module, Mapping[str, Tensor]], Tensor]
    """Logits of each trained token of a batch under a model, (N, V), with their graph."""
    tasks: tuple[str, ...] = ()
    """What the batches' task numbers stand for."""


@dataclass(frozen=True)
class Start:
    """The state from which an adapter is attached."""

    probe: Probe | None = None
    """None where a saved adapter is loaded."""
    seed: int = 0
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    """The tensors of a saved adapter of the same method and settings, as its file names them; empty for a new adapter. The engine puts
    them in place after `attach`, which can spare itself the making of what they replace."""
    domains: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    """The tensors of each adapter of the base's bank, by domain, for an adapter that mixes them."""


@dataclass(frozen=True)
class Moment:
    """A training as a method finds it just before an optimizer step. What a method does here is a function of it alone."""

    step: int
    """Steps made so far."""
    steps: int
    """Steps of the whole training."""
    seed: int
    model: nn.Module
    optimizer: Optimizer
    scheduler: LRScheduler
    probe: Probe
    valid: Probe
    """Held-out sequences of the tasks that train."""
    state: dict[str, Any] = field(default_factory=dict)
    """The method's own notes: JSON, kept in checkpoints."""
    linear: frozenset[str] = frozenset()
    """Names of the trainable parameters that the adapter's update is linear in."""
    sequences: int = 0
    """Sequences that train."""
    auxiliary: Callable[[], Iterator[tuple[Tensor, Any]]] = lambda: iter(())
    """Yield the token losses and `Tokens` of all of them that have auxiliary sequences, pack by pack, under the model as it is.
    They have no graph."""
