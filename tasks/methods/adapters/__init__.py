"""Adapters: new modules beside frozen weights.

An adapter's folder holds `SPEC = AdapterSpec(config=…, merges=…)` and `METHOD = Adapter(attach=…, merge=…)`. `attach(model,
config, start)` freezes the model, inserts the new modules and returns the model to train: its argument, changed in place, or peft's
wrapper around it. The freshly attached model computes the same function as the base, unless `difference` describes a difference. A saved
adapter holds the tensors that require a gradient at that moment and the `held` ones; `attach` must build all others from the base's weights
and `config` alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from tasks.core.training import Moment, Start
from tasks.methods import TrainingSpec

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class AdapterSpec(TrainingSpec):
    """The facts about an adapter."""

    merges: bool
    """True if plain weights can compute the same function, that is, if the method has `merge`."""
    linear: tuple[str, ...] = ()
    """Name segments of the tensors in which the update is linear: if these tensors are scaled, the update scales by the same factor. Empty if
    there are none, for example if the update passes through a norm."""
    undecayed: tuple[str, ...] = ()
    """Name segments of trained tensors of two or more dimensions to which weight decay is not applied."""
    held: tuple[str, ...] = ()
    """Name segments of buffers that are not trained but belong to the adapter: they are saved with it, and in checkpoints."""
    phases: tuple[str, ...] = ()
    """Settings in which a training may differ from the saved adapter that it starts from."""
    across_layers: bool = False
    """True if the adapter keeps state of a pass from one layer to another, which a second, interleaved pass would overwrite."""
    takes_turns: bool = False
    """True if `on_step` decides at each step which of the adapter's tensors train; a selector cannot decide too."""
    of_domains: bool = False
    """True if `pretrain.bank` trains one adapter for each domain, with replayed general text, and `tune` mixes them (`Start.domains`)."""
    narrows: bool = False
    """True if the merged model has other shapes than the base, so that it cannot be stored as a difference from the base's weights."""
    no_lora: str = ""
    """The reason why no LoRA computes the same function; empty if the method has `finish`, or if peft made the adapter."""
    difference: str = ""
    """The difference between a freshly attached model and the base, if there is one."""

    def held_in(self, model: "nn.Module") -> "dict[str, Tensor]":
        """Return the buffers of `model` that are held, by their full names."""
        return {name: buffer for name, buffer in model.named_buffers() if set(self.held) & set(name.split("."))}


class LowRank(NamedTuple):
    """A change of a weight: the product B A."""

    A_RI: "Tensor"
    B_OR: "Tensor"


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """One way of putting trainable modules into a model."""

    attach: "Callable[[nn.Module, Any, Start], nn.Module]"
    adopt: "Callable[[Mapping[str, Tensor], Any, Start], Mapping[str, Tensor]] | None" = None
    """Converts the tensors of a saved adapter for a training with this config and with the tasks of its probe. Without this function they
    are used as they are."""
    on_step: Callable[[Moment, Any], None] | None = None
    """Called before every optimizer step, including the first one of a resumed run."""
    turns: Callable[[Any], int] | None = None
    """The number of steps after which the turns repeat, for an adapter that `takes_turns`."""
    merge: "Callable[[nn.Module], nn.Module] | None" = None
    """Turns an attached model into the plain model that computes the same function; None if there is no such model."""
    finish: "Callable[[nn.Module], Mapping[str, LowRank]] | None" = None
    """Returns the changes of weights, by the full names of their layers, that give the same function. They are saved as a LoRA beside the
    adapter, for programs that read peft's format. None if `no_lora` says why there is no such LoRA, and if peft made the adapter."""
    of_task: "Callable[[nn.Module, str], Mapping[str, LowRank]] | None" = None
    """Returns the same for one task, by its name, if each task has a change of its own."""
    used: "Callable[[Mapping[str, Tensor], Any], tuple[Mapping[str, Tensor], Any]] | None" = None
    """Returns the tensors of a saved adapter as the forward pass uses them, and the config under which it uses them unchanged. A compressor
    stores these if there is no `finish`. None if the change of weights does not follow from the tensors alone."""
    penalty: "Callable[[nn.Module, Any], Tensor] | None" = None
    """Returns a scalar, in nats per token, that is computed from the last forward pass and added to the loss."""
    weigh: "Callable[[nn.Module, Tensor, Any], Tensor] | None" = None
    """Returns factors of the weights of trained tokens, (N,), given the keys of their tasks (`task_key`), (N,)."""
    rates: "Callable[[nn.Module, Any], Mapping[str, float]] | None" = None
    """Returns multiples of the optimizer's learning rate, by the names of parameters; parameters not named have the rate itself."""
    facts: "Callable[[nn.Module], Mapping[str, Any]] | None" = None
    """Returns figures of a trained model that show the method at work, as JSON; they are entry `adapter` of `training.json`."""
