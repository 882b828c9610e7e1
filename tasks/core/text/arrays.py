"""Arrays on disk: an array as a file, and numbered buckets of rows, by which data larger than memory can be sorted."""

from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

IN_MEMORY = 1 << 27
"""Bytes of all buckets above which they are written to files."""


def save(path: Path, array: NDArray[Any]) -> None:
    """Write an array in the format of `np.save`, through a Python file: numpy's own writing of a small array does not report a full disk.

    Raises OSError if the disk is full.
    """
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        file.write(np.ascontiguousarray(array).view(np.uint8).data)


class Buckets:
    """Numbered buckets of rows of one type, each in the order of insertion. They are in memory while they are small, and in files after that."""

    def __init__(self, folder: Path, dtype: DTypeLike) -> None:
        """Files are written to `folder`, which is created for the first one and belongs to these buckets alone."""
        self._folder, self._dtype = folder, np.dtype(dtype)
        self._held: defaultdict[int, list[NDArray[Any]]] = defaultdict(list)
        self._num_bytes = 0

    def add(self, number: int, rows: NDArray[Any]) -> None:
        """Append rows to a bucket."""
        self._held[number].append(rows)
        self._num_bytes += rows.nbytes
        if self._num_bytes > IN_MEMORY:
            self._spill()

    def scatter(self, numbers: NDArray[np.int64], rows: NDArray[Any]) -> None:
        """Append each row to the bucket of its number. Rows of one bucket keep their order."""
        order = np.argsort(numbers, kind="stable")
        ordered, sorted_rows = numbers[order], rows[order]
        starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)])
        for start, end in pairwise([*starts.tolist(), len(ordered)]):
            self.add(int(ordered[start]), sorted_rows[start:end])

    def take(self, number: int) -> NDArray[Any]:
        """Return the rows of a bucket and remove them."""
        path = self._path(number)
        stored = [np.fromfile(path, self._dtype)] if path.exists() else []
        path.unlink(missing_ok=True)
        held = self._held.pop(number, [])
        self._num_bytes -= sum(rows.nbytes for rows in held)
        return np.concatenate([*stored, *held, np.zeros(0, self._dtype)])

    def _spill(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        for number, held in self._held.items():
            with self._path(number).open("ab") as file:
                for rows in held:
                    file.write(np.ascontiguousarray(rows, self._dtype).view(np.uint8).data)
        self._held.clear()
        self._num_bytes = 0

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:06d}"
