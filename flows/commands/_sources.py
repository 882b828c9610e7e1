"""Parse arguments that name a model or a difference with a factor: `r1.safetensors:-1`."""

import math
from pathlib import Path


def with_factor(source: str) -> tuple[Path, float]:
    """Return a path and its factor, 1 where none is given. Raises ValueError if nothing is at the path, or the factor is no number."""
    if Path(source).exists():
        return Path(source), 1.0
    name, _, factor = source.rpartition(":")
    if not name or not Path(name).exists():
        raise ValueError(
            f"{name or source} is neither the folder of a model (models/tuned/r0) nor a file that `ratchet delta` wrote."
        )
    try:
        number = float(factor)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{source}: {factor!r} is no number.")
    return Path(name), number


def file_with_factor(source: str) -> tuple[Path, float]:
    """Return a file and its factor. Raises ValueError in the cases of `with_factor`, and for a folder."""
    path, factor = with_factor(source)
    if path.is_dir():
        raise ValueError(
            f"{path} is a folder, and only files of differences are added. `ratchet delta {path} --to FILE` writes one."
        )
    return path, factor
