"""Read 100,000 malformed lines with every reader of tables: none is lost, and none ends in a traceback.

    python benchmarks/malformed.py

Prints, for each format, the records that were read and refused, and the rows a second.
"""

import argparse
import gzip
import random
import tempfile
import time
from pathlib import Path

import polars as pl

from tasks.io.sources import table
from tasks.io.sources.record import Broken

LINES = 100_000
SEED = 0
SPOILT = [
    '{"q": "x", "a"',
    "{'q': 'x'}",
    "[1, 2]",
    "nul\x00l",
    "\ufffd",
    '{"q": ' * 200,
    '"',
    "x",
    "}{",
    '{"q": "\\ud800"}',
]


def json_lines(random: random.Random) -> bytes:
    """Return malformed lines of JSON."""
    lines = [random.choice(SPOILT).encode() + bytes([random.randrange(33, 256)]) for _ in range(LINES)]
    return b"\n".join(lines)


def delimited(random: random.Random) -> bytes:
    """Return records of which each has a field too few, a field too many, or text behind a closing quote."""
    return b"q,a\n" + b"\n".join(random.choice([b"x", b"x,y,z", b'x,"y" z']) for _ in range(LINES))


def document(random: random.Random) -> bytes:
    """Return a JSON list of malformed objects."""
    spoilt = [b'{"q" "x"}', b'{"q": }', b"{q: 1}", b"[1]", b'{"q": [1 2]}']
    return b"[" + b",\n".join(random.choice(spoilt) for _ in range(LINES)) + b"]"


def main() -> None:
    """Read each file and compare the number of records with that of lines."""
    generator = random.Random(SEED)
    files = {"a.jsonl": json_lines(generator), "a.csv": delimited(generator), "a.json": document(generator)}
    files |= {f"{name}.gz": gzip.compress(data) for name, data in files.items()}
    with tempfile.TemporaryDirectory() as folder:
        for name, data in files.items():
            path = Path(folder) / name
            path.write_bytes(data)
            measure(path)
        for name, write in {"a.parquet": pl.DataFrame.write_parquet, "a.arrow": pl.DataFrame.write_ipc}.items():
            write(pl.DataFrame({"a": range(LINES)}), Path(folder) / name)
            measure(Path(folder) / name)


def measure(path: Path) -> None:
    """Print the counts of one file. Raises AssertionError if a record is lost."""
    start = time.perf_counter()
    num_records = num_broken = 0
    for record in table.rows(path):
        num_records += 1
        num_broken += isinstance(record, Broken)
    seconds = time.perf_counter() - start
    print(
        f"{path.name:12} {num_records:>8,} records, {num_broken:>8,} refused, {num_records / seconds:>10,.0f} a second"
    )
    assert num_records == LINES, f"{path.name}: {LINES - num_records} lost"


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    main()
