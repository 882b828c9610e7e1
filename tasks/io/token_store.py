"""Tokenised sequences on disk, as flat memory-mapped arrays: written once, with random access.

A store is a folder to which data are only appended. `contents.json` states up to which point the arrays are complete. It is replaced after those
data are on the disk, so a killed process loses only what came later. A complete store never changes.

    sequences   one record of `SEQUENCE` for each sequence, followed by its auxiliary ones
    ids         the ids of all tokens, int32
    weights     their loss weights, float32
    names       the ids of the sequences, UTF-8
    column-*    the values of an objective's column for all tokens, if it has columns
"""

import fcntl
import json
import shutil
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.sequences import Column, Encoded
from tasks.io.system import files

CONTENTS = "contents.json"
SEQUENCE = np.dtype([
    ("start", np.int64),  # the index of its first token
    ("name", np.int64),  # the index of the first byte of its id
    ("size", np.int64),
    ("tokens", np.int32),
    ("trained", np.int32),
    ("name_bytes", np.int32),
    ("task", np.int32),
    ("domain", np.int32),
    ("auxiliary", np.int32),  # the number of auxiliary sequences after it; -1 if it is one itself
    ("columns", np.int32),  # a bit for each column that it has
])  # fmt: skip
COMMIT_TOKENS = 1 << 22
"""Number of tokens between two commits, from which a restarted process continues."""
UNUSED_S = 30 * 24 * 3600
"""Seconds after which an unused store is removed, when another one is created."""


@dataclass(frozen=True)
class Tokenized:
    """The sequences from one row of a table."""

    sequences: Sequence[Encoded]
    domain: str
    too_long: int = 0
    """Number of sequences that are left out because they are longer than a pack."""
    unusable: int = 0
    """Number of sequences that are left out for another reason."""
    unused: int = 0
    """Number of rows of the objective's table that are in none of the sequences."""


@dataclass
class Contents:
    """The sizes and counts of a store."""

    columns: dict[str, str]
    """The type of each column."""
    rows: int = 0
    """Number of rows of the table that are in it, from the first on."""
    is_complete: bool = False
    sizes: dict[str, int] = field(default_factory=dict)
    """Size of each file in bytes."""
    tasks: list[str] = field(default_factory=list)
    domains: list[str] = field(default_factory=list)
    too_long: Counter[str] = field(default_factory=Counter)
    """Number of sequences longer than a pack, by domain."""
    unusable: Counter[str] = field(default_factory=Counter)
    """Number of sequences left out for another reason, by domain."""
    without: int = 0
    """Number of rows without any sequence, including those left out."""
    unused: int = 0

    @property
    def tokens(self) -> int:
        """Return the number of tokens on the disk."""
        return self.sizes.get("ids", 0) // np.dtype(np.int32).itemsize

    def add(self, row: Tokenized) -> None:
        """Count the next row."""
        self.rows += 1
        self.unused += row.unused
        for counts, number in ((self.too_long, row.too_long), (self.unusable, row.unusable)):
            if number:
                counts[row.domain] += number
        if not (row.sequences or row.too_long or row.unusable):
            self.without += 1

    @classmethod
    def from_json(cls, text: str) -> "Contents":
        """Return the contents that were written as JSON."""
        values = json.loads(text)
        counters = {name: Counter(values[name]) for name in ("too_long", "unusable")}
        return cls(**values | counters)


class TokenStore:
    """A complete store. Only the parts that are read are in memory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.contents = Contents.from_json((folder / CONTENTS).read_text(encoding="utf-8"))
        self._records = self._map("sequences", SEQUENCE)
        self._ids, self._weights = self._map("ids", np.int32), self._map("weights", np.float32)
        self._names = self._map("names", np.uint8)
        self._columns = {name: self._map(f"column-{name}", dtype) for name, dtype in self.contents.columns.items()}
        is_auxiliary = self._records["auxiliary"] < 0
        self._places = np.flatnonzero(~is_auxiliary) if is_auxiliary.any() else None

    def __reduce__(self) -> tuple[Any, ...]:
        return TokenStore, (self._folder,)  # a data-loading process maps the files itself

    def __len__(self) -> int:
        return len(self._records) if self._places is None else len(self._places)

    @property
    def records(self) -> NDArray[Any]:
        """Return the record of each sequence, without auxiliary ones."""
        return self._records if self._places is None else self._records[self._places]

    @property
    def longest(self) -> NDArray[Any]:
        """Return, for each sequence, the largest number of tokens among it and its auxiliary ones."""
        tokens = self._records["tokens"]
        return tokens if self._places is None else np.maximum.reduceat(tokens, self._places)

    def read(self, place: int) -> Encoded:
        """Return a sequence with its auxiliary ones. `place` does not count auxiliary sequences."""
        number = place if self._places is None else int(self._places[place])
        further = range(number + 1, number + 1 + int(self._records["auxiliary"][number]))
        return self._sequence(number, tuple(self._sequence(other) for other in further))

    def _sequence(self, number: int, auxiliary: tuple[Encoded, ...] = ()) -> Encoded:
        record = self._records[number]
        tokens = slice(int(record["start"]), int(record["start"] + record["tokens"]))
        name = self._names[int(record["name"]) : int(record["name"] + record["name_bytes"])]
        return Encoded(
            name.tobytes().decode(),
            self._ids[tokens].tolist(),
            self._weights[tokens].tolist(),
            int(record["size"]),
            self.contents.tasks[record["task"]],
            self.contents.domains[record["domain"]],
            {
                column: values[tokens].tolist()
                for bit, (column, values) in enumerate(self._columns.items())
                if record["columns"] >> bit & 1
            },
            auxiliary,
        )

    def _map(self, name: str, dtype: Any) -> NDArray[Any]:
        path = self._folder / name
        return np.asarray(np.memmap(path, dtype, "r")) if path.stat().st_size else np.zeros(0, dtype)


def open_or_make(
    folder: Path,
    columns: Sequence[Column],
    rows_from: Callable[[Contents], Iterable[Tokenized]],
    say: Callable[[str], None],
) -> TokenStore:
    """Return the store in `folder`. If it is missing or unfinished, complete it with the rows that `rows_from` yields after its present contents.

    If several processes request it, one creates it and the others wait. A store with damaged files is recreated, which is reported through
    `say`.
    """
    with _locked(folder, say):
        types = {column.name: "float64" if isinstance(column.fill, float) else "int64" for column in columns}
        contents = _written(folder, say) or Contents(types)
        if not contents.is_complete:
            _remove_unused(folder.parent)
            folder.mkdir(parents=True, exist_ok=True)
            with _Writer(folder, contents) as writer:
                for row in rows_from(replace(contents)):
                    writer.add(row)
        (folder / CONTENTS).touch()  # for `_remove_unused`
        return TokenStore(folder)


class _Writer:
    """Appends rows to a store."""

    def __init__(self, folder: Path, contents: Contents) -> None:
        self._folder, self._contents = folder, contents
        self._tasks = {name: code for code, name in enumerate(contents.tasks)}
        self._domains = {name: code for code, name in enumerate(contents.domains)}
        names = ["sequences", "ids", "weights", "names", *(f"column-{name}" for name in contents.columns)]
        self._files = {name: self._opened(name) for name in names}
        self._num_tokens, self._num_bytes = contents.tokens, contents.sizes.get("names", 0)
        self._clear()

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        try:
            if error is None:
                self._contents.is_complete = True
                self._commit()
        finally:
            for file in self._files.values():
                file.close()

    def add(self, row: Tokenized) -> None:
        """Append the next row."""
        for sequence in row.sequences:
            self._append(sequence, len(sequence.auxiliary))
            for other in sequence.auxiliary:
                self._append(other, -1)
        self._contents.add(row)
        if len(self._ids) >= COMMIT_TOKENS:
            self._commit()

    def _append(self, sequence: Encoded, auxiliary: int) -> None:
        name = sequence.id.encode()
        self._records.append((
            self._num_tokens + len(self._ids),
            self._num_bytes + len(self._names),
            sequence.size,
            len(sequence),
            sequence.num_trained,
            len(name),
            self._tasks.setdefault(sequence.task, len(self._tasks)),
            self._domains.setdefault(sequence.domain, len(self._domains)),
            auxiliary,
            sum(1 << bit for bit, column in enumerate(self._columns) if column in sequence.columns),
        ))  # fmt: skip
        self._ids.extend(sequence.ids)
        self._weights.extend(sequence.weights)
        self._names += name
        for column, values in self._columns.items():
            values.extend(sequence.columns.get(column) or [0] * len(sequence))

    def _commit(self) -> None:
        """Write the added data, and after they are on the disk, the new contents.json."""
        pending: dict[str, Any] = {
            "sequences": np.array(self._records, SEQUENCE),
            "ids": self._ids,
            "weights": self._weights,
            "names": self._names,
            **{f"column-{name}": values for name, values in self._columns.items()},
        }
        try:
            for name, data in pending.items():
                self._files[name].write(data)
            for name, file in self._files.items():
                file.flush()
                files.flush(self._folder / name)
        except OSError as error:  # the error names no file
            raise OSError(error.errno, f"tokens cannot be written: {error.strerror}", str(self._folder)) from error
        self._num_tokens += len(self._ids)
        self._num_bytes += len(self._names)
        self._clear()
        self._contents.sizes = {name: file.tell() for name, file in self._files.items()}
        self._contents.tasks, self._contents.domains = list(self._tasks), list(self._domains)
        files.write_atomically(self._folder / CONTENTS, json.dumps(vars(self._contents)))

    def _clear(self) -> None:
        self._records: list[tuple[int, ...]] = []
        self._ids, self._weights, self._names = array("i"), array("f"), bytearray()
        types = self._contents.columns.items()
        self._columns: dict[str, array[Any]] = {
            name: array("d" if dtype == "float64" else "q") for name, dtype in types
        }

    def _opened(self, name: str) -> IO[bytes]:
        """Return a file, truncated to the last commit."""
        file = (self._folder / name).open("ab")
        file.truncate(self._contents.sizes.get(name, 0))
        file.seek(0, 2)
        return file


def _written(folder: Path, say: Callable[[str], None]) -> Contents | None:
    """Return the contents of the store in `folder`; None if there is none. An unusable store is removed."""
    if not folder.is_dir():
        return None
    contents, damage = None, ""
    try:
        contents = Contents.from_json((folder / CONTENTS).read_text(encoding="utf-8"))
        damage = _damage(folder, contents)
    except FileNotFoundError:  # killed before the first commit
        pass
    except (ValueError, TypeError, KeyError):
        damage = f"{CONTENTS} cannot be read"
    if damage:
        say(f"{folder}: {damage}, so the tokens are computed again")
    if contents is None or damage:
        shutil.rmtree(folder)
        return None
    return contents


def _damage(folder: Path, contents: Contents) -> str:
    """Return the damage of a store's files; empty if they have their recorded sizes. Files of an unfinished store may be longer."""
    for name, size in contents.sizes.items():
        path = folder / name
        present = path.stat().st_size if path.is_file() else 0
        if present < size or (contents.is_complete and present > size):
            return f"{name} has {present:,} bytes, and had {size:,} when it was written"
    return ""


def _remove_unused(folder: Path) -> None:
    """Remove the stores in `folder` that have not been opened for a long time. Processes that have mapped them can still read them."""
    for store in (path for path in folder.iterdir() if path.is_dir()):
        contents = store / CONTENTS
        if time.time() - (contents if contents.is_file() else store).stat().st_mtime > UNUSED_S:
            shutil.rmtree(store, ignore_errors=True)
            store.with_suffix(".lock").unlink(missing_ok=True)


@contextmanager
def _locked(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Wait for the lock of a store, and hold it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{folder}: another process makes these tokens; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
