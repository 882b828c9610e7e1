"""Records of a training that methods receive: its config, the parameter groups of an optimizer, a probe, and the moment before a step."""

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
"""The families of a training's composition, in the order in which they act on a model. The setting of a family has its name in
the singular."""


TrainOn = Literal["all", "last"]
"""The answers of a conversation that are trained on: all of the assistant's, or only the last."""


def in_words(parts: Iterable[str]) -> str:
    """Return the methods of a composition, without the neutral ones."""
    return " × ".join(name for name in parts if name not in ("none", "all"))


class Training(Config):
    """A composition of methods and the schedule of its training. Stages that train extend it."""

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
    """A folder of `tasks/methods/sparsifiers`, which omits parts of a step's passes. `none` does not change outputs, so it is left out of
    written settings."""
    max_tokens: int = Field(40_000, ge=1)
    """Training ends after this many tokens, including prompts."""
    epochs: int = Field(1, ge=1)
    """Epochs over the data, unless `max_tokens` ends the training earlier."""
    pack_tokens: int = Field(1024, ge=16)
    """Tokens of a pack. A longer example is left out and counted."""
    accumulation: int = Field(1, ge=1)
    """Packs in one optimizer step."""
    warmup: float = Field(0.1, ge=0, le=1)
    """Share of the steps during which the learning rate rises from 0."""
    schedule: Literal["constant_with_warmup", "linear", "cosine"] = "cosine"
    """The decay of the learning rate after the warm-up."""
    clip: float = Field(1.0, gt=0)
    """Largest norm of a step's gradient, to which larger ones are clipped."""
    valid_tokens: int = Field(6_000, ge=0)
    """Validation loss is measured on about this many tokens."""
    save_every: int = Field(20, ge=0)
    """Steps between checkpoints. An interrupted run continues from the last one. With 0 there are none."""
    validate_every: int | None = Field(None, ge=0, exclude=True)
    """Steps between validation losses for MLflow and the console, in addition to those at checkpoints. The default is as often as takes
    less than 5 % of the training's time; with 0, only at checkpoints. It changes no output, so it is left out of written settings."""
    workers: int = Field(0, ge=0)
    """Processes that load data."""
    activation_checkpointing: bool = Field(False, exclude=True)
    """True if every decoder layer keeps only its input for the backward pass, and is recomputed there (activation checkpointing): less memory,
    a third more time, the same bytes. It changes no output, so it is left out of written settings."""
    seed: int = 0
    """Seed of the order of the data, of new weights and of dropout."""
    floor: float = Field(0.0, ge=0)
    """Loss below which a step is skipped: there is no backward pass, and weights and the optimizer's state stay the same. 0 skips
    none."""


class SavedAdapter(Config):
    """The saved adapter from which a training starts, in place of a new one. It must have the same base, method and settings."""

    path: str
    """The folder to which stage `tune` wrote it, or a copy."""
    digest: str = ""
    """The hash of the folder's contents. DVC does not track the folder, so a changed adapter must be a changed setting. If the hash is
    missing or wrong, the error of the stage states the right one."""


def parts(section: str) -> dict[str, str]:
    """Return, for a stage's declaration, family → the setting of `section` that names its method."""
    return {family: f"{section}.{family.removesuffix('s')}" for family in FAMILIES}


@dataclass(frozen=True)
class Group:
    """Parameters with the same optimizer settings."""

    name: str
    parameters: Sequence[nn.Parameter]
    rate: float = 1.0
    """Factor of the optimizer's learning rate."""
    decay: bool = True
    """True if weight decay applies."""


@dataclass(frozen=True)
class Probe:
    """A few batches that a method may evaluate."""

    batches: Sequence[Mapping[str, Tensor]]
    """Packed rows in the engine's format."""
    losses: Callable[[nn.Module, Mapping[str, Tensor]], Tensor]
    """Negative log-likelihood of each trained token of a batch under a model in nats, (N,), with its graph."""
    logits: Callable[[nn.Module, Mapping[str, Tensor]], Tensor]
    """Logits of each trained token of a batch under a model, (N, V), with their graph."""
    tasks: tuple[str, ...] = ()
    """The names of the batches' task numbers."""


@dataclass(frozen=True)
class Start:
    """The state from which an adapter is attached."""

    probe: Probe | None = None
    """None if a saved adapter is loaded."""
    seed: int = 0
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    """The tensors of a saved adapter of the same method and settings, with the names in its file; empty for a new adapter. The engine sets
    them after `attach`, so `attach` need not compute the values that they replace."""
    domains: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    """The tensors of each adapter of the base's bank, by domain, for an adapter that mixes them."""


@dataclass(frozen=True)
class Moment:
    """The state of a training just before an optimizer step. What a method does then must be a function of this state only."""

    step: int
    """Number of steps so far."""
    steps: int
    """Number of steps of the whole training."""
    seed: int
    model: nn.Module
    optimizer: Optimizer
    scheduler: LRScheduler
    probe: Probe
    valid: Probe
    """Held-out sequences of the trained tasks."""
    state: dict[str, Any] = field(default_factory=dict)
    """The method's own state, as JSON, which is kept in checkpoints."""
    linear: frozenset[str] = frozenset()
    """Names of the trainable parameters in which the adapter's update is linear."""
    sequences: int = 0
    """The training sequences."""
    auxiliary: Callable[[], Iterator[tuple[Tensor, Any]]] = lambda: iter(())
    """Yield the token losses and `Tokens` of all training sequences with auxiliary sequences, pack by pack, under the current model.
    They have no graph."""
