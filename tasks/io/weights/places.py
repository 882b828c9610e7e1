"""Places of models in a workspace, by the names that commands take."""

from pathlib import Path

from tasks.io.weights import checkpoints

BASE = Path("models/pretrained")
"""The model on which adapters were trained, unless their base is beside them."""


def find(name: str) -> Path:
    """Return the folder of a model: a path, `base`, `champion`, or a round. Raises ValueError with the known names."""
    places = [Path(name), Path("models") / name, Path("models/tuned") / name, Path("models") / name / "model"]
    folder = next(
        (place for place in places if (place / checkpoints.CARD).is_file() or (place / "config.json").is_file()), None
    )
    if folder is None:
        available = [path.parent for path in sorted(Path("models").glob(f"**/{checkpoints.CARD}"))]
        names = ", ".join(str(path.relative_to("models")) for path in available) or "none yet; `ratchet run` makes them"
        raise ValueError(f"There is no model {name!r}. There are: {names}.")
    return folder


def base_of(folder: Path) -> Path:
    """Return the base of a model that is an adapter or a difference. A promoted model has its base beside it."""
    beside = folder.with_name("base")
    return beside if folder.name == "model" and beside.is_dir() else BASE
