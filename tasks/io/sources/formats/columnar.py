"""Parquet and Arrow (IPC files and streams, Feather), batch by batch."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.io import provenance
from tasks.io.sources.containers.archives import Entry
from tasks.io.sources.formats.blocks import BLOCK
from tasks.io.sources.record import Broken, Record, Row, UnreadableError, first_line

ROWS = 4_096
"""Number of rows in memory at a time."""
END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"


@dataclass(frozen=True)
class Groups:
    """Consecutive row groups of a Parquet file."""

    first: int
    last: int
    """The number of the group after them."""
    digest: str
    """The digest of the file."""
    stamp: tuple[int, int]
    """Size and time of change of the file."""

    @property
    def place(self) -> list[int]:
        return [self.first, self.last]

    def records(self, path: Path) -> Iterator[Record]:
        """Yield the rows with their numbers in the file."""
        if _stamp(path) != self.stamp:
            raise ValueError(f"{path} has changed while it was read. Run it again.")
        with _opened(path, path.name) as file:
            yield from _rows_of_groups(file, range(self.first, self.last))


def blocks(path: Path) -> list[Groups]:
    """Return the row groups of a Parquet file as blocks. Small groups share a block. Raises UnreadableError if it is not Parquet."""
    digest, stamp = provenance.digest(path), _stamp(path)
    with _opened(path, path.name) as file:
        sizes = [file.metadata.row_group(group).total_byte_size for group in range(file.metadata.num_row_groups)]
    parts: list[Groups] = []
    first = size = 0
    for group, num_bytes in enumerate(sizes, 1):
        size += num_bytes
        if size >= BLOCK or group == len(sizes):
            parts.append(Groups(first, group, digest, stamp))
            first, size = group, 0
    return parts


def read_parquet(entry: Entry) -> Iterator[Record]:
    """Yield the rows of a Parquet file. A damaged group is one `Broken` record. Raises UnreadableError if the file is not Parquet."""
    with entry.on_disk() as path, _opened(path, entry.name) as file:
        yield from _rows_of_groups(file, range(file.metadata.num_row_groups))


@contextmanager
def _opened(path: Path, name: str) -> Iterator[Any]:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise UnreadableError(f"{name}: this is not a Parquet file: {first_line(error)}") from None
    with file:
        yield file


def _stamp(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def _rows_of_groups(file: Any, groups: range) -> Iterator[Record]:
    """Yield the rows of some groups. A damaged group does not affect the others."""
    numbers = [file.metadata.row_group(group).num_rows for group in range(groups.stop)]
    for group in groups:
        first = sum(numbers[:group])
        batches = file.iter_batches(batch_size=ROWS, row_groups=[group])
        yield from _rows(batches, first, first + numbers[group])


def read_arrow(entry: Entry) -> Iterator[Record]:
    """Yield the rows of an Arrow IPC file or stream. Raises UnreadableError if it is neither."""
    import pyarrow

    with entry.on_disk() as path:
        try:
            yield from _rows(_arrow_batches(path), 0, None)
        except (pyarrow.ArrowException, OSError) as error:
            raise UnreadableError(f"{entry.name}: this is no Arrow file: {first_line(error)}") from None


def _arrow_batches(path: Path) -> Iterator[Any]:
    import pyarrow.ipc

    with pyarrow.memory_map(str(path)) as source:
        is_file = source.read(6) == b"ARROW1"
        source.seek(0)
        if is_file:
            reader = pyarrow.ipc.open_file(source)
            for number in range(reader.num_record_batches):
                yield reader.get_batch(number)
        else:
            yield from pyarrow.ipc.open_stream(source)
            source.seek(max(0, source.tell() - len(END_OF_STREAM)))
            if source.read() != END_OF_STREAM:
                raise pyarrow.ArrowInvalid("the stream does not end with its mark, so batches may be missing")


def _rows(batches: Iterator[Any], first: int, last: int | None) -> Iterator[Record]:
    """Yield the rows in batches, after the first `first` rows. `last` is the number of the last row, if it is known."""
    import polars as pl
    import pyarrow

    number, damage = first, "rows are missing"
    try:
        for batch in batches:
            batch.validate(full=True)  # polars does not validate the data
            for start in range(0, batch.num_rows, ROWS):
                table: Any = pl.from_arrow(pyarrow.Table.from_batches([batch.slice(start, ROWS)]))
                for values in table.iter_rows(named=True):
                    number += 1
                    yield Row(f"row {number}", values)
    except (pyarrow.ArrowException, pl.exceptions.PolarsError, OSError) as error:
        damage = first_line(error)
        if last is None:
            if not number:
                raise
            yield Broken(f"from row {number + 1}", "damaged file", damage, "")
    if last is not None and number < last:
        yield Broken(f"from rows {number + 1} to {last}", "damaged file", damage, "")
