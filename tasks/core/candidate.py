"""Which of the measured models is the candidate."""

from collections.abc import Mapping
from typing import Any

from tasks.core.stage import Model

TUNED, COMPRESSED = "models/tuned", "models/compressed"


def choose(models: Mapping[str, Model], wanted: str | None, compression: Mapping[str, Any]) -> tuple[str | None, str]:
    """The name of the candidate, None where there is none, and why.

    `compression` is what stage `compress` says: its round, and what it did. Raises ValueError where the model that is wanted,
    or follows, is none of `models`: then it was not measured.
    """
    if not models:
        return None, "`models` in params.yaml names no model"
    if wanted is not None:
        if wanted not in models:
            raise ValueError(f"gate.candidate: `models` has no {wanted!r}. There are: {', '.join(models)}.")
        return wanted, "`gate.candidate` names it"
    taken = compression["round"]
    if compression["compressor"] != "none":
        path, why = COMPRESSED, f"round {taken}, compressed with {compression['compressor']}"
    else:
        path, why = f"{TUNED}/{taken}", f"`compress` takes round {taken}, and stores it as it is"
    name = next((name for name, model in models.items() if model.path == path), None)
    if name is None:
        raise ValueError(
            f"params.yaml: `models` has no entry with path {path}, so the candidate ({why}) is not measured. Add one, or name "
            "another in gate.candidate."
        )
    return name, why


def reference(models: Mapping[str, Model]) -> str:
    """The model that all begins with. Raises ValueError unless there is one."""
    found = [name for name, model in models.items() if model.group == "reference"]
    if len(found) != 1:
        raise ValueError(
            f"params.yaml: `models` needs one model of group `reference`; it has {', '.join(found) or 'none'}."
        )
    return found[0]
