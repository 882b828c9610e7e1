"""Merge models of one base on disk: adapters, models that were trained whole, compressed models, and files of differences."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tasks import methods
from tasks.core.weights import sparse
from tasks.core.weights.merging import Merge
from tasks.io import provenance
from tasks.io.system import files
from tasks.io.weights import checkpoints, compressed, models, processors, sparse_deltas


@dataclass(frozen=True)
class Expert:
    """A model to merge."""

    path: Path
    """Its folder, or a file written by `ratchet delta`."""
    weight: float = 1.0


def write(folder: Path, base: Path, experts: Sequence[Expert], merge: Merge) -> list[str]:
    """Write the base with the merged changes of all experts to the new folder `folder`, a model that `from_pretrained` opens.

    Returns the paths of the experts that name no base, for which only the shapes were checked. Memory holds the base, one expert, and one tensor of each.
    A single adapter that makes the model narrower is written as the resulting model. Raises ValueError for an expert of another base, for one that
    plain weights cannot express, for adapters of different layers, and like `Merge.check`.
    """
    import torch

    merge.check([expert.weight for expert in experts])
    for expert in experts:
        if checkpoints.is_adapter(expert.path):
            checkpoints.check_plain_base(expert.path, "merged into plain weights")
    model, tokenizer = checkpoints.load(base)
    _check_targets(experts, {name for name, _ in model.named_modules()})
    with files.atomic_path(folder) as partial, torch.no_grad():
        partial.mkdir()
        if len(experts) == 1 and merge.method == "linear" and _is_narrower(experts[0].path):
            model, _ = models.load(experts[0].path, base)
        else:
            _add(model, experts, base, merge, partial)
        _check_finite(model)
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        processors.copy(base, partial)
        recorded = [
            {"path": str(expert.path), "weight": expert.weight, "digest": _digest(expert.path)} for expert in experts
        ]
        checkpoints.write_card(
            partial, parent=checkpoints.weights_digest(base), merge={**asdict(merge), "experts": recorded}
        )
    return [str(expert.path) for expert in experts if not _names_base(expert.path)]


def _add(model: Any, experts: Sequence[Expert], base: Path, merge: Merge, scratch: Path) -> None:
    """Add the merged changes of all experts to the weights of `model`, the base. `scratch` is a folder for their changes."""
    import torch

    plain = dict(model.named_parameters())
    written = [scratch / f"expert-{number}.safetensors" for number in range(len(experts))]
    for expert, file in zip(experts, written, strict=True):
        _write_changes(file, expert, base, plain)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(merge.seed)
        for name, changes in _changes(written, plain):
            plain[name].add_(merge.combine(changes, [expert.weight for expert in experts]))
    for file in written:
        file.unlink()


def _check_finite(model: Any) -> None:
    """Raise ValueError if a merged model has a weight that is not finite."""
    if odd := [name for name, weight in model.named_parameters() if not weight.isfinite().all()]:
        raise ValueError(
            f"The merged model would have weights in {odd[0]} that are not finite, so none is written. Take smaller weights of the models, "
            "and check that each model answers by itself."
        )


def _is_narrower(path: Path) -> bool:
    """Return True if an adapter makes the model narrower, so that it defines a new model, not a change of the base's weights."""
    name, _ = checkpoints.read_adapter_note(path)
    return bool(methods.spec("adapters", name).narrows)


def _write_changes(file: Path, expert: Expert, base: Path, plain: Mapping[str, Any]) -> None:
    """Write an expert's changes of the base's weights. Unchanged weights are left out."""
    from safetensors.torch import save_file

    if expert.path.is_file():
        difference, parent = sparse_deltas.read(expert.path)
        if parent != (digest := checkpoints.weights_digest(base)):
            raise ValueError(
                f"{expert.path} is a difference to weights {parent[:12]}, but {base} holds {digest[:12]}. "
                "Name the base that it is a difference to."
            )
        save_file({name: tensor.contiguous() for name, tensor in sparse.dense(difference).items()}, file)
        return
    checkpoints.check_parent(expert.path, base)
    model, _ = models.load(expert.path, base)
    tuned = dict(model.named_parameters())
    if odd := [name for name in sorted({*tuned, *plain}) if _shape(tuned, name) != _shape(plain, name)]:
        raise ValueError(
            f"{expert.path} is not {base} with other weights ({odd[0]}), so plain weights have no place for its change. "
            "Merge models of one shape, with adapters that `ratchet methods adapters` calls mergeable; one that makes the model narrower "
            "is written alone, by `linear`, and one of embeddings or head cannot be where these are one tensor in the base."
        )
    save_file({name: tensor - plain[name] for name, tensor in tuned.items() if not tensor.equal(plain[name])}, file)


def _changes(written: Sequence[Path], plain: Mapping[str, Any]) -> Iterator[tuple[str, list[Any]]]:
    """Yield the name of every tensor that an expert changed, and its change by each expert."""
    import torch
    from safetensors import safe_open

    with ExitStack() as stack:
        opened = [stack.enter_context(safe_open(file, "pt")) for file in written]
        names = [set(file.keys()) for file in opened]
        for name in sorted({name for known in names for name in known}):
            yield (
                name,
                [
                    file.get_tensor(name) if name in known else torch.zeros_like(plain[name])
                    for file, known in zip(opened, names, strict=True)
                ],
            )


def _check_targets(experts: Sequence[Expert], modules: set[str]) -> None:
    """Raise ValueError if two adapters change different layers, because it is unclear if the other one counts as unchanged there."""
    targets = {expert.path: _targets(expert.path, modules) for expert in experts if checkpoints.is_adapter(expert.path)}
    (first, layers), *others = targets.items() or [(Path(), frozenset())]
    for path, other in others:
        if other != layers:
            owner, layer = (first, min(layers - other)) if layers - other else (path, min(other - layers))
            raise ValueError(
                f"{first} and {path} adapt different layers ({owner} alone has {layer}). Train them with the same targets; or write "
                "each as a whole model (`ratchet merge ADAPTER --to FOLDER`) and merge those: what one does not adapt is then unchanged."
            )


def _targets(path: Path, modules: set[str]) -> frozenset[str]:
    """Return the layers of the base to which the tensors of an adapter belong."""
    from safetensors import safe_open

    if checkpoints.is_compressed(path):
        with tempfile.TemporaryDirectory() as folder:
            compressed.unpack(path, Path(folder))
            return _targets(Path(folder), modules)
    names: list[str] = []
    for weights in checkpoints.weights(path):
        with safe_open(weights, "pt") as file:
            names += file.keys()
    owners = (_owner(name.removeprefix("base_model.model.").split("."), modules) for name in names)
    return frozenset(owner for owner in owners if owner)


def _owner(segments: Sequence[str], modules: set[str]) -> str | None:
    """Return the longest prefix of a tensor's name that is the name of a module."""
    beginnings = (".".join(segments[:end]) for end in range(len(segments), 0, -1))
    return next((beginning for beginning in beginnings if beginning in modules), None)


def _digest(path: Path) -> str:
    return checkpoints.weights_digest(path) if path.is_dir() else provenance.digest(path)


def _names_base(path: Path) -> bool:
    """Return True if an expert names its base."""
    return path.is_file() or bool(checkpoints.read_card(path).get("parent"))


def _shape(tensors: Mapping[str, Any], name: str) -> tuple[int, ...] | None:
    return tuple(tensors[name].shape) if name in tensors else None
