"""Find the adapters on disk that a training starts from or mixes, and check that they fit."""

from pathlib import Path

from tasks.core.training import SavedAdapter
from tasks.engine.training.compose import Part
from tasks.io import pinned
from tasks.io.weights import banks, checkpoints


def folder_of(start: SavedAdapter, base: Path, adapter: Part) -> Path:
    """Return the folder of the adapter that a training of `adapter` on the model in `base` starts from.

    Raises ValueError if it holds no adapter or one with another digest, and if that adapter was trained on another base, by another method
    or with other settings. An adapter that peft wrote elsewhere does not record these: `checkpoints.fill` compares its settings.
    """
    folder = Path(start.path)
    if not checkpoints.is_adapter(folder):
        raise ValueError(f"{folder} holds no adapter. Name in tune.start.path the folder of one that stage tune wrote.")
    pinned.check(folder, pinned.digest(folder), start.digest, "tune.start.digest")
    checkpoints.check_parent(folder, base)
    checkpoints.check_adapter(folder)
    card = checkpoints.read_card(folder)
    method = card.get("method", {}).get("adapter")
    if not card and adapter.spec.wraps and (folder / checkpoints.PEFT_ADAPTER).is_file():
        return folder
    if method != adapter.name:
        raise ValueError(
            f"{folder} is an adapter of method {method or 'unknown'}, and tune.adapter is {adapter.name}. "
            f"Name an adapter of {adapter.name} in tune.start.path, or another method in tune.adapter."
        )
    settings = adapter.spec.config.model_validate(card["settings"]["methods"][method])
    for key, value in settings:
        if value != (now := getattr(adapter.config, key)) and key not in adapter.spec.phases:
            raise ValueError(
                f"{folder} was trained with methods.{method}.{key}: {value}, and it is {now} now. Set it back to start from this adapter."
            )
    return folder


def bank_beside(base: Path, adapter: Part) -> Path | None:
    """Return the folder of the bank beside the model in `base` that `adapter` mixes; None for an adapter that mixes none.

    Raises ValueError if there is no bank, or if its adapters are of another method.
    """
    if not adapter.spec.of_domains:
        return None
    folder = base / checkpoints.BANK
    if not checkpoints.is_bank(folder):
        raise ValueError(
            f"Adapter {adapter.name!r} mixes the adapters of a bank, and {base} has none: set pretrain.bank: domain, "
            f"pretrain.adapter: {adapter.name} and a pretrain.max_tokens above 0."
        )
    banks.check(folder, base, mixed_by=adapter.name)
    return folder
