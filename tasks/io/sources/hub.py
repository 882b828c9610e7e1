"""Rows of a Hugging Face data set, from the hub at a revision or from disk."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasks.io.sources.record import Row, first_line


def from_hub(name: str, revision: str, config: str | None, split: str) -> Iterator[Row]:
    """Yield the rows of one split of a data set on the hub.

    Raises ValueError with advice if the hub cannot be reached or has no such data set.
    """
    import datasets

    try:
        data = datasets.load_dataset(name, config, split=split, revision=revision)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:  # offline is an OSError
        raise ValueError(
            f"ingest: the data set {name!r} at revision {revision!r} could not be read from the hub: {first_line(error)} "
            "Check name, revision, config, split and the network; or save it to disk elsewhere "
            "(`dataset.save_to_disk(folder)`) and name that folder as `path`."
        ) from None
    return _rows(data)


def from_disk(path: Path, split: str) -> Iterator[Row]:
    """Yield the rows of one split of a data set that `save_to_disk` wrote. Raises ValueError if it is not one, or is damaged."""
    import datasets

    if not path.is_dir():
        raise FileNotFoundError(f"{path}: there is no such folder. `path` names what `dataset.save_to_disk` wrote.")
    try:
        data: Any = datasets.load_from_disk(str(path))
    except (
        OSError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
    ) as error:  # for descriptions that lack a key or have an unexpected value
        problem = f"{type(error).__name__}: {first_line(error)}"
        raise ValueError(f"{path}: no data set was saved here, or it is damaged: {problem}") from None
    if isinstance(data, datasets.DatasetDict):
        if split not in data:
            raise ValueError(f"{path}: there is no split {split!r}. There are: {', '.join(map(str, data))}.")
        data = data[split]
    try:
        data.data.validate(full=True)  # the conversion to rows does not validate the data
    except ValueError as error:
        raise ValueError(f"{path}: the data set is damaged: {first_line(error)}") from None
    return _rows(data)


def _rows(data: Any) -> Iterator[Row]:
    for number, values in enumerate(data, 1):
        yield Row(f"row {number}", values)
