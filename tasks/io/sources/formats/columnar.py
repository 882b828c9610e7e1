"""Parquet and Arrow (IPC files and streams, Feather), batch by batch."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasks.io.sources.containers.archives import Entry
from tasks.io.sources.record import Broken, Record, Row, UnreadableError, first_line

ROWS = 4_096
"""Rows that are in memory at a time."""


def read_parquet(entry: Entry) -> Iterator[Record]:
    """Yield the rows of a Parquet file. Raises UnreadableError if it is none; rows of a damaged part are one record that is broken."""
    import pyarrow
    import pyarrow.parquet

    with entry.on_disk() as path:
        try:
            file = pyarrow.parquet.ParquetFile(path)
        except (pyarrow.ArrowException, OSError) as error:
            raise UnreadableError(f"{entry.name}: this is no Parquet file: {first_line(error)}") from None
        with file:
            yield from _rows(file.iter_batches(batch_size=ROWS), file.metadata.num_rows)


def read_arrow(entry: Entry) -> Iterator[Record]:
    """Yield the rows of an Arrow IPC file or stream. Raises UnreadableError if it is none."""
    import pyarrow

    with entry.on_disk() as path:
        try:
            yield from _rows(_arrow_batches(path), None)
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


def _rows(batches: Iterator[Any], num_rows: int | None) -> Iterator[Record]:
    import polars as pl
    import pyarrow

    number = 0
    try:
        for batch in batches:
            batch.validate(full=True)  # polars trusts what it is handed
            for start in range(0, batch.num_rows, ROWS):
                table: Any = pl.from_arrow(pyarrow.Table.from_batches([batch.slice(start, ROWS)]))
                for values in table.iter_rows(named=True):
                    number += 1
                    yield Row(f"row {number}", values)
    except (pyarrow.ArrowException, pl.exceptions.PolarsError, OSError) as error:
        if not number and num_rows is None:
            raise
        rows = f"row {number + 1}" if num_rows is None else f"rows {number + 1} to {num_rows}"
        yield Broken(f"from {rows}", "damaged file", first_line(error), "")
