"""Lines of 2 GB, and peak memory while they are read: `python benchmarks/long_lines.py [--bytes 2147483648] [--folder DIR]`.

Each file holds a row, a line of so many bytes, and a row: NUL (a hole that takes no room on disk), and letters in a string; as JSON
lines, CSV and one JSON document, plain and gzip. A process of its own reads each as a source of stage `ingest`. Prints what it read and
refused, its seconds, and its anonymous memory beyond that of a process that reads the two rows alone.
"""

import argparse
import gzip
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from benchmarks.ingest import Cost, run

GB_2 = 1 << 31
PIECE = 1 << 20
READ = """
import sys, tempfile
from pathlib import Path
from tasks.stages.ingest.config import File, IngestConfig
from tasks.stages.ingest.shards.collection import Reader, num_read, refusals
from tasks.stages.ingest.shards.parts import parts_of
from tests.support import ScratchRun

source = File.model_validate({"from": "file", "path": sys.argv[1]})
config = IngestConfig(sources=(source,))
with tempfile.TemporaryDirectory() as folder:
    scratch = Path(folder)
    shards, parts = Reader(config, scratch / "cache", scratch, ScratchRun(scratch)).read(list(parts_of(source, config)))
    print(f"{num_read(parts).total()} read", end="")
    for where, reason, detail in refusals(shards).select("where", "reason", "detail").collect().iter_rows():
        print(f"; {where}: {reason}: {detail}", end="")
    print()
"""
Write = Callable[[BinaryIO, int], None]


def letters(file: BinaryIO, number: int) -> None:
    """Write so many letters."""
    for _ in range(number // PIECE):
        file.write(b"x" * PIECE)


def hole(file: BinaryIO, number: int) -> None:
    """Leave a hole of this size in the file, which is read as NUL bytes."""
    file.seek(number, 1)


def json_lines(file: BinaryIO, write: Write, number: int) -> None:
    """Write a row, a long line and a row."""
    quoted = (b'{"prompt": "a", "completion": "', b'"}') if write is letters else (b"", b"")
    row = b'{"prompt": "a", "completion": "b"}\n'
    file.write(row + quoted[0])
    write(file, number)
    file.write(quoted[1] + b"\n" + row)


def delimited(file: BinaryIO, write: Write, number: int) -> None:
    """Write a header, a row, a long line and a row."""
    file.write(b"prompt,completion\na,b\n")
    write(file, number)
    file.write(b",c\na,b\n")


def document(file: BinaryIO, write: Write, number: int) -> None:
    """Write a list of a row, one with a long value, and a row."""
    file.write(b'[{"prompt": "a", "completion": "b"}, {"prompt": "a", "completion": "')
    write(file, number)
    file.write(b'"}, {"prompt": "a", "completion": "b"}]')


FILES = {"rows.jsonl": json_lines, "rows.csv": delimited, "rows.json": document}


def measure(path: Path, write: Write, number: int) -> Cost:
    """Write a file, print the rows that are read from it, and return the cost of reading."""
    name = path.name.removesuffix(".gz")
    with gzip.open(path, "wb", 1) if path.suffix == ".gz" else path.open("wb") as file:
        FILES[name](file, letters if path.suffix == ".gz" else write, number)  # type: ignore[arg-type]
    try:
        return run(READ, [str(path)])
    finally:
        path.unlink()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bytes", type=int, default=GB_2)
    parser.add_argument("--folder", type=Path, help="where files are written; they are removed")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for name in FILES:
            least = measure(Path(folder) / name, letters, 0)
            for label, ending, write in (("NUL", "", hole), ("letters", "", letters), ("letters", ".gz", letters)):
                print(f"{name}{ending}, {label}: ", end="", flush=True)
                cost = measure(Path(folder) / f"{name}{ending}", write, options.bytes)
                more = (cost.peak_gb - least.peak_gb) * 1024
                print(f"    {more:,.0f} MiB more, {cost.cpu_s:.1f} CPU-seconds", flush=True)


if __name__ == "__main__":
    main()
