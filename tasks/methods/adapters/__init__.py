"""Adapters: new modules beside frozen weights.

An adapter's folder holds `SPEC = AdapterSpec(config=…, merges=…)` and `METHOD = Adapter(attach=…, merge=…)`. `attach(model,
config, start)` freezes the model, puts the new modules in and returns the model to train: its argument, changed in place, or peft's
wrapper around it. At that moment the function is still the base's, or `difference` says what differs. What requires a gradient
then, and what is `held`, is what a saved adapter holds; `attach` must build the rest from the base's weights and `config` alone.
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
    """True where plain weights can compute the same function: where the method has `merge`."""
    linear: tuple[str, ...] = ()
    """Segments in the names of the tensors that the update is linear in: times them it is that many times as large. Empty where
    there are none, as where the update goes through a norm."""
    undecayed: tuple[str, ...] = ()
    """Segments in the names of trained tensors of two or more dimensions that weight decay leaves alone."""
    held: tuple[str, ...] = ()
    """Segments in the names of buffers that no gradient moves and that belong to the adapter: they are saved with it, and in
    checkpoints."""
    phases: tuple[str, ...] = ()
    """Settings in which a training may differ from the saved adapter that it starts from."""
    across_layers: bool = False
    """True where the adapter keeps something of a pass from one layer to another, which a second pass beside it would overwrite."""
    takes_turns: bool = False
    """True where `on_step` says of each step which of the adapter's tensors train, so that no selector can."""
    of_domains: bool = False
    """True where `pretrain.bank` trains one for each domain, beside replayed general text, and `tune` mixes those (`Start.domains`)."""
    narrows: bool = False
    """True where the merged model has other shapes than the base, so that its weights are no change of the base's."""
    no_lora: str = ""
    """The reason why no LoRA computes the same function, where the method has no `finish` and peft does not read it anyway."""
    difference: str = ""
    """The difference of a freshly attached model to the base, where there is one."""

    def held_in(self, model: "nn.Module") -> "dict[str, Tensor]":
        """Return the buffers of `model` that are held, by their full names."""
        return {name: buffer for name, buffer in model.named_buffers() if set(self.held) & set(name.split("."))}


class LowRank(NamedTuple):
    """A change of a weight, B A."""

    A_RI: "Tensor"
    B_OR: "Tensor"


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """One way of putting trainable modules into a model."""

    attach: "Callable[[nn.Module, Any, Start], nn.Module]"
    adopt: "Callable[[Mapping[str, Tensor], Any, Start], Mapping[str, Tensor]] | None" = None
    """The tensors of a saved adapter as a training with this config, and of the tasks of its probe, takes them up. Without it as they are."""
    on_step: Callable[[Moment, Any], None] | None = None
    """Called before every optimizer step, the first of a resumed run included."""
    turns: Callable[[Any], int] | None = None
    """Steps after which the turns begin anew, where `takes_turns`."""
    merge: "Callable[[nn.Module], nn.Module] | None" = None
    """The plain model that computes the same function, made of an attached one; None where there is none."""
    finish: "Callable[[nn.Module], Mapping[str, LowRank]] | None" = None
    """The changes of weights, by the full names of their layers, that give the same function: it is saved as a LoRA beside the adapter,
    for programs that read peft's format. None where `no_lora` says why there are none, and where peft made the adapter."""
    of_task: "Callable[[nn.Module, str], Mapping[str, LowRank]] | None" = None
    """The same for one task, by its name, where each task has a change of its own."""
    used: "Callable[[Mapping[str, Tensor], Any], tuple[Mapping[str, Tensor], Any]] | None" = None
    """The tensors of a saved adapter as the forward uses them, and the config under which it takes them as they are: what a compressor
    stores where there is no `finish`. None where their change cannot be told from them."""
    penalty: "Callable[[nn.Module, Any], Tensor] | None" = None
    """A scalar of the last forward that is added to the loss, in nats per token."""
    weigh: "Callable[[nn.Module, Tensor, Any], Tensor] | None" = None
    """What the weight of each trained token is multiplied by, (N,), given the keys of their tasks (`task_key`), (N,)."""
    rates: "Callable[[nn.Module, Any], Mapping[str, float]] | None" = None
    """Parameters, by name, that learn at so many times the optimizer's learning rate; the others at it."""
    facts: "Callable[[nn.Module], Mapping[str, Any]] | None" = None
    """Figures of a trained model that show the method at work, as JSON; kept in `training.json` as `adapter`."""
