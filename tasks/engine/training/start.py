"""The adapter on disk that a training starts from, and what it has to agree with."""

from pathlib import Path

from tasks.core.training import SavedAdapter
from tasks.engine.training.compose import Part
from tasks.io import pinned
from tasks.io.weights import checkpoints


def folder_of(start: SavedAdapter, base: Path, adapter: Part) -> Path:
    """Return the folder of the adapter that a training of `adapter` on the model in `base` starts from.

    Raises ValueError where it holds no adapter or another one than its digest says, and where that adapter was trained on another base,
    by another method or with other settings. An adapter that peft made elsewhere says nothing of these: `checkpoints.fill` compares its settings.
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
