"""Put a composition together on a model: base × expander × adapter × selector × optimizer × objective × sparsifier."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from tasks import methods
from tasks.core.training import FAMILIES, Group, Probe, Start, Training
from tasks.core.weights import deltas
from tasks.engine import device
from tasks.engine.forward import bind_loss, reads_alone
from tasks.io.weights import banks, checkpoints


@dataclass(frozen=True)
class Part:
    """A method and its config."""

    name: str
    spec: Any
    """The facts about the method: its family's subclass of `methods.Spec`."""
    method: Any
    """The record of the method's functions, in its family's type."""
    config: Any


@dataclass(frozen=True)
class Composition:
    """The methods of one training."""

    base: Part
    expander: Part
    adapter: Part
    selector: Part
    optimizer: Part
    objective: Part
    sparsifier: Part

    @property
    def names(self) -> dict[str, str]:
        """Return the name of each part: `{"adapter": "lora", …}`. The sparsifier is named only if there is one."""
        names = {kind: part.name for kind, part in vars(self).items()}
        if self.sparsifier.name == "none":
            del names["sparsifier"]
        return names


@dataclass(frozen=True)
class Attached:
    """A model with its parts in place."""

    model: nn.Module
    trainable: Mapping[str, nn.Parameter]
    """The parameters that train at some step, by name. A checkpoint holds these and the tensors of `kept`."""
    kept: Mapping[str, Tensor]
    """Further tensors that checkpoints restore, by name, such as the indices of sparse deltas and an adapter's buffers."""
    adapter: frozenset[str]
    """The names of the parameters and tensors that the adapter added."""
    expansion: Mapping[str, Any]
    """The model's new shape, as the expander describes it."""


def read(training: Training, sections: Mapping[str, Mapping[str, Any]]) -> Composition:
    """Return the composition that a training's settings name. `sections` holds the settings of each part by its name."""

    def part(family: str) -> Part:
        name = getattr(training, family.removesuffix("s"))
        spec = methods.spec(family, name)
        return Part(name, spec, methods.load(family, name), spec.config.model_validate(sections[name]))

    return Composition(*map(part, FAMILIES))


def compose(
    model: nn.Module,
    parts: Composition,
    probe: Probe,
    seed: int,
    *,
    saved: Path | None = None,
    domains: Path | None = None,
    fsdp: bool = False,
) -> Attached:
    """Put the parts on the model.

    In this order: bind the objective into the model's forward, grow the model, attach the adapter, let the selector choose which weights
    train, and let the sparsifier choose what training passes leave out. `saved` is the folder of an adapter to start from, `domains` the
    folder of a bank whose adapters are mixed. Raises ValueError if the composition cannot work or leaves nothing to train, and if the saved
    adapter does not fit.
    """
    check(parts, fsdp=fsdp)
    bind_loss(model, parts.objective, parts.adapter)
    _check_rows(model, parts)
    _freeze_unread(model)
    expansion = parts.expander.method.expand(model, parts.expander.config, probe, seed)
    start = Start(
        probe, seed, checkpoints.read_adapter(saved) if saved else {}, banks.read_tensors(domains) if domains else {}
    )
    if saved and parts.adapter.method.adopt:
        start = replace(start, tensors=parts.adapter.method.adopt(start.tensors, parts.adapter.config, start))
    attached: nn.Module = parts.adapter.method.attach(model, parts.adapter.config, start)
    if saved:
        checkpoints.fill(attached, parts.adapter.name, start.tensors, saved)
    of_adapter = _training(attached) if parts.adapter.name != "none" else {}
    parts.selector.method.choose(attached, parts.selector.config, probe, seed)
    trainable = _training(attached)
    if not trainable:
        raise ValueError(
            f"Nothing trains: adapter {parts.adapter.name!r} with selector {parts.selector.name!r} leaves every weight frozen."
        )
    parts.sparsifier.method.sparsify(attached, parts.sparsifier.config, seed)
    return Attached(
        attached,
        trainable,
        deltas.kept(attached) | parts.adapter.spec.held_in(attached),
        frozenset(of_adapter),
        expansion,
    )


def groups(attached: Attached, parts: Composition) -> list[Group]:
    """Return the trainable parameters in groups of one learning rate each.

    Weight decay applies to matrices and their deltas. It does not apply to vectors (norms, biases) or to parameters that the adapter exempts.
    """
    rates_of = parts.adapter.method.rates
    rates = rates_of(attached.model, parts.adapter.config) if rates_of else {}
    group_each = parts.expander.spec.group_each
    exempt = _named(attached, parts.adapter.spec.undecayed)
    of_matrices = {layer.delta for layer in deltas.deltas(attached.model).values()}
    grouped: dict[tuple[str, float, bool], list[nn.Parameter]] = {}
    for name, parameter in attached.trainable.items():
        decay = (parameter.ndim >= 2 or parameter in of_matrices) and name not in exempt
        label = name if group_each else ("matrices" if decay else "vectors")
        grouped.setdefault((label, rates.get(name, 1.0), decay), []).append(parameter)
    return [
        Group(label if group_each or rate == 1.0 else f"{label} x{rate:g}", parameters, rate, decay)
        for (label, rate, decay), parameters in grouped.items()
    ]


def linear(attached: Attached, parts: Composition) -> frozenset[str]:
    """Return the names of the trainable parameters in which the adapter's update is linear."""
    return _named(attached, parts.adapter.spec.linear)


def _named(attached: Attached, segments: Iterable[str]) -> frozenset[str]:
    """Return the names of the trainable parameters whose dotted name contains one of these segments."""
    wanted = set(segments)
    return frozenset(name for name in attached.trainable if wanted & set(name.split(".")))


def needs_merging(parts: Composition) -> bool:
    """Return whether a trained model can only be stored as a full model: it grew, or a selector put deltas on its weights."""
    return parts.expander.name != "none" or parts.selector.spec.merges


def merge(model: nn.Module, parts: Composition) -> nn.Module:
    """Merge a trained model in place into a plain one that computes the same, and return it."""
    if parts.selector.spec.merges:
        deltas.merge(model)
    merged: nn.Module = parts.adapter.method.merge(model)
    return merged


def hooks(parts: Composition) -> list[tuple[str, Part]]:
    """Return the parts that act before every step, by kind, in the order in which they act."""
    return [(kind, part) for kind, part in vars(parts).items() if part.spec.acts_between_steps]


def check(parts: Composition, *, standalone: bool = False, fsdp: bool = False) -> None:
    """Raise ValueError, which names the parts, if parts contradict each other.

    `standalone`: the output is a full model instead of an adapter. `fsdp`: the processes of the training also shard the weights.
    """
    chosen = {f"{kind}s": part.name for kind, part in vars(parts).items()}
    if device.processes() > 1 and (reasons := methods.alone(chosen, fsdp=fsdp)):
        fix = "compute.processes: 1" if methods.alone(chosen) else "compute.fsdp: false"
        raise ValueError(f"Several processes cannot share this training. {'; '.join(reasons)}. Set {fix}.")
    if parts.objective.spec.hits and not parts.optimizer.spec.gradient_free:
        free = [name for name in methods.names("optimizers") if methods.spec("optimizers", name).gradient_free]
        raise ValueError(
            f"objective {parts.objective.name!r} is a score without gradient, and optimizer {parts.optimizer.name!r} needs one. "
            f"Optimizers that do not: {', '.join(free)}."
        )
    if parts.objective.spec.looks > 1 and parts.optimizer.spec.gradient_free:
        raise ValueError(
            f"objective {parts.objective.name!r} compares two random passes of a row, and optimizer "
            f"{parts.optimizer.name!r} makes none at random, so both are the same. Take an optimizer with gradients."
        )
    unsteady = parts.objective.method.unsteady
    if parts.optimizer.spec.gradient_free and unsteady and (reason := unsteady(parts.objective.config)):
        raise ValueError(
            f"optimizer {parts.optimizer.name!r} compares two passes of a step, and objective {parts.objective.name!r} does not "
            f"weigh them alike: {reason}."
        )
    if parts.optimizer.spec.gradient_free and parts.selector.spec.needs_gradient(parts.selector.config):
        raise ValueError(
            f"selector {parts.selector.name!r} works with the gradients of steps, and optimizer {parts.optimizer.name!r} has none. "
            "Take an optimizer with gradients, or another selector or setting of it."
        )
    if parts.optimizer.spec.gradient_free and parts.sparsifier.name != "none":
        raise ValueError(
            f"sparsifier {parts.sparsifier.name!r} saves activation memory of the backward pass, and optimizer "
            f"{parts.optimizer.name!r} has none. Use `sparsifier: none`."
        )
    if parts.objective.spec.reference and parts.sparsifier.name != "none":
        raise ValueError(
            f"objective {parts.objective.name!r} compares passes of the training with those of a reference, and sparsifier "
            f"{parts.sparsifier.name!r} changes the former alone. Use `sparsifier: none`."
        )
    if parts.optimizer.spec.streams and (reason := _stays(parts)):
        raise ValueError(
            f"optimizer {parts.optimizer.name!r} takes two passes through the model block by block, and {reason}. Use `optimizer: mezo`."
        )
    if parts.adapter.spec.takes_turns and parts.selector.spec.acts_between_steps:
        raise ValueError(
            f"adapter {parts.adapter.name!r} and selector {parts.selector.name!r} both say before each step what trains in it. "
            "Take one of them."
        )
    if parts.selector.spec.needs_linear and not parts.adapter.spec.linear:
        specs = {name: methods.spec("adapters", name) for name in methods.names("adapters")}
        able = [name for name, spec in specs.items() if spec.linear and not spec.takes_turns]
        raise ValueError(
            f"selector {parts.selector.name!r} scales an adapter's update down by tensors that it is linear in, and adapter "
            f"{parts.adapter.name!r} has none. Adapters that have: {', '.join(able)}."
        )
    if parts.expander.name != "none" and parts.adapter.name != "none":
        raise ValueError(
            f"expander {parts.expander.name!r} trains its new layers, and adapter {parts.adapter.name!r} freezes them. "
            "Use `adapter: none`."
        )
    if (standalone or needs_merging(parts)) and not parts.adapter.spec.merges:
        cause = "this stage writes" if standalone else f"selector {parts.selector.name!r} keeps"
        mergeable = [name for name in methods.names("adapters") if methods.spec("adapters", name).merges]
        raise ValueError(
            f"{cause} a whole model, and adapter {parts.adapter.name!r} cannot be merged into one. "
            f"Adapters that can: {', '.join(mergeable)}."
        )
    if parts.base.name != "none" and (cause := _wants_numbers(parts, standalone=standalone)):
        raise ValueError(f"{cause}, and base {parts.base.name!r} stores weights quantised. Use `base: none`.")
    if parts.base.name != "none" and parts.adapter.name == "none":
        raise ValueError(
            f"base {parts.base.name!r} stores weights quantised, and without an adapter they are what trains. "
            "Put an adapter beside them, or use `base: none`."
        )


def _wants_numbers(parts: Composition, *, standalone: bool) -> str:
    """Return what needs unquantised weights; empty if nothing does."""
    if standalone:
        return "this stage writes a whole model"
    if parts.expander.name != "none":
        return f"expander {parts.expander.name!r} trains copies of whole layers"
    return f"selector {parts.selector.name!r} moves numbers of the weights" if parts.selector.spec.merges else ""


def _stays(parts: Composition) -> str:
    """Return the reason why the two passes of a step cannot go through the blocks side by side; empty if they can."""
    reads_auxiliary = parts.objective.method.reads_auxiliary
    if parts.base.name != "none":
        return f"base {parts.base.name!r} stores weights quantised, which stay where they are"
    if parts.adapter.method.penalty or parts.adapter.spec.across_layers:
        return f"adapter {parts.adapter.name!r} stores state of one pass at a time and reads it later"
    if reads_auxiliary and reads_auxiliary(parts.objective.config):
        return f"objective {parts.objective.name!r} reads a row and its auxiliary sequences, each by a pass of its own"
    return ""


def _check_rows(model: Any, parts: Composition) -> None:
    """Raise ValueError if a part works on whole rows and the model reads the sequences of a row one after the other."""
    of_rows = [f"{kind} {part.name!r}" for kind, part in vars(parts).items() if part.spec.of_rows]
    if of_rows and reads_alone(model):
        raise ValueError(
            f"Family {model.config.model_type} reads the sequences of a row one after the other, and {of_rows[0]} goes by a row as a whole. "
            "Take another one, or a base whose sequences share rows, for example of llama, qwen3, gemma3 or olmo2."
        )


def check_floor(parts: Composition, config: Training) -> None:
    """Raise ValueError if `floor` is set and steps cannot be left out by their loss."""
    if not config.floor:
        return
    if parts.optimizer.spec.gradient_free:
        raise ValueError(
            f"floor {config.floor:g} leaves out backward passes, and optimizer {parts.optimizer.name!r} makes none. Set floor: 0."
        )
    if config.accumulation > 1 or device.processes() > 1:
        raise ValueError(
            f"floor {config.floor:g} is compared with the loss of one pack, and here several make a step. "
            "Set accumulation: 1 and compute.processes: 1, and a larger pack_tokens; or floor: 0."
        )


def check_steps(parts: Composition, steps: int) -> None:
    """Raise ValueError if a training ends before its selector has acted."""
    if steps < (least := parts.selector.spec.least_steps(parts.selector.config)):
        raise ValueError(
            f"selector {parts.selector.name!r} first acts before step {least}, and this training has {steps}. Raise epochs and max_tokens, "
            f"lower pack_tokens or accumulation, or change the settings in methods.{parts.selector.name}."
        )


def _freeze_unread(model: Any) -> None:
    """Freeze modules outside decoder and head, such as a vision tower: text does not use them, and an optimizer without gradients would
    change them."""
    read = {
        parameter for part in (model.get_decoder(), model.get_output_embeddings()) for parameter in part.parameters()
    }
    for parameter in model.parameters():
        if parameter not in read:
            parameter.requires_grad_(False)


def _training(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
