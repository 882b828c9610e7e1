"""Choice of the candidate among the measured models."""

from collections.abc import Mapping
from typing import Any

from tasks.core.stage import Model

TUNED, COMPRESSED = "models/tuned", "models/compressed"


def choose(models: Mapping[str, Model], wanted: str | None, compression: Mapping[str, Any]) -> tuple[str | None, str]:
    """Return the name of the candidate (None if there is none) and the reason in words.

    `compression` is the output of stage `compress`: its round and its compressor. Raises ValueError if the candidate is not in `models`, so
    that it was not measured.
    """
    if not models:
        return None, "`models` in params.yaml names no model"
    if wanted is not None:
        if wanted not in models:
            raise ValueError(f"gate.candidate: `models` has no {wanted!r}. There are: {', '.join(models)}.")
        return wanted, "`gate.candidate` names it"
    round_name = compression["round"]
    if compression["compressor"] != "none":
        path, reason = COMPRESSED, f"round {round_name}, compressed with {compression['compressor']}"
    else:
        path, reason = f"{TUNED}/{round_name}", f"`compress` takes round {round_name}, and stores it as it is"
    name = next((name for name, model in models.items() if model.path == path), None)
    if name is None:
        raise ValueError(
            f"params.yaml: `models` has no entry with path {path}, so the candidate ({reason}) is not measured. Add one, or name "
            "another in gate.candidate."
        )
    return name, reason


def reference(models: Mapping[str, Model]) -> str:
    """Return the name of the one model of group `reference`. Raises ValueError unless there is exactly one."""
    names = [name for name, model in models.items() if model.group == "reference"]
    if len(names) != 1:
        raise ValueError(
            f"params.yaml: `models` needs one model of group `reference`; it has {', '.join(names) or 'none'}."
        )
    return names[0]
