"""Read 100,000 malformed lines, and 100,000 records in damaged files, with every reader: none is lost, and none ends in a traceback.

    python benchmarks/malformed.py [lines|files] [--records 100000] [--readers rows.xlsx …]

`lines` writes files of records that are malformed themselves. `files` damages valid files of 100 records (bits flipped, runs
overwritten, cut out, doubled and swapped, ends cut off and replaced; of archives also inside) until so many records stand in
damaged files, and ingests them as a folder, a query or a corpus, of which a document is one record. Of each file, the records read must be those kept and those
refused, or the file is refused with its reason. Prints a table of counts for each reader.
"""

import argparse
import gzip
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from benchmarks.damaged_files import DATABASES, DOCUMENTS, ROWS, TABLES, damaged
from tasks.core.records import Refusal
from tasks.io.sources import table
from tasks.io.sources.record import Broken
from tasks.stages.ingest.config import File, Folder, IngestConfig, Query
from tasks.stages.ingest.reading.documents import read_documents
from tasks.stages.ingest.reading.examples import read_rows
from tasks.stages.ingest.shards.collection import Reader, empty_files, num_read, refusals
from tasks.stages.ingest.shards.parts import parts_of
from tests.support import ScratchRun

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


@dataclass(frozen=True)
class Counts:
    """What became of damaged files of one format."""

    files: int
    read: int
    """Records that were read of them, and refusals of what could not be."""
    kept: int
    refused: int
    named: int
    """Files that were refused as a whole or in part, with a reason."""
    fewer: int
    """Files that gave fewer records than they held before, and no refusal: damage that leaves a valid, shorter file."""


def damaged_tables(folder: Path) -> Counts:
    """Ingest a folder of damaged tables."""
    source = File.model_validate({"from": "file", "path": str(folder)})
    config = IngestConfig(sources=(source,))
    with tempfile.TemporaryDirectory() as scratch:
        reader = Reader(config, Path(scratch) / "cache", Path(scratch), ScratchRun(Path(scratch)))
        parts = list(parts_of(source, config))
        shards, summaries = reader.read(parts)
        read = num_read(summaries)
        refused = Counter(refusals(shards).collect()["source"].to_list())
        for refusal in empty_files(parts, read):
            read[refusal.source] = refused[refusal.source] = 1
        kept = Counter[str]()
        for shard in shards:
            kept.update(shard.examples(["file"])["file"].to_list())
    labels = [f"file {folder.name}/{file.name}" for file in sorted(folder.iterdir())]
    return _counted(labels, read, kept, refused)


def damaged_databases(folder: Path) -> Counts:
    """Ask each database of a folder for all rows."""
    read, kept, refused = Counter[str](), Counter[str](), Counter[str]()
    labels = [file.name for file in sorted(folder.iterdir())]
    for label in labels:
        query = "SELECT * FROM chats ORDER BY number"
        source = Query.model_validate({"from": "query", "database": str(folder / label), "query": query})
        try:
            for _, record in read_rows(source, 0):
                read[label] += 1
                (refused if isinstance(record, Refusal) else kept)[label] += 1
        except ValueError:  # it says which database cannot be read, and why
            read[label] += 1
            refused[label] += 1
    return _counted(labels, read, kept, refused)


def damaged_documents(folder: Path) -> Counts:
    """Read a folder of damaged documents as a corpus. A document is one record."""
    source = Folder.model_validate({"from": "folder", "path": str(folder)})
    read, kept, refused = Counter[str](), Counter[str](), Counter[str]()
    for record in read_documents(source, "domain"):
        label = (record.where if isinstance(record, Refusal) else record.source).split(" ")[0]
        read[label] += 1
        (refused if isinstance(record, Refusal) else kept)[label] += 1
    return _counted([file.name for file in sorted(folder.iterdir())], read, kept, refused, records=1)


def _counted(
    labels: list[str], read: Counter[str], kept: Counter[str], refused: Counter[str], records: int = ROWS
) -> Counts:
    """Return the counts. Raises AssertionError if a file is not accounted for."""
    for label in labels:
        assert read[label], f"{label}: lost"
        assert read[label] == kept[label] + refused[label], f"{label}: read is not kept and refused"
    assert set(read) == set(labels), sorted(set(read) - set(labels))
    fewer = [label for label in labels if kept[label] < records and not refused[label]]
    named = sum(refused[label] > 0 for label in labels)
    return Counts(len(labels), read.total(), kept.total(), refused.total(), named, len(fewer))


READERS: dict[str, Callable[[Path], Counts]] = {
    **dict.fromkeys(TABLES, damaged_tables),
    **dict.fromkeys(DATABASES, damaged_databases),
    **dict.fromkeys(DOCUMENTS, damaged_documents),
}


def measure_files(name: str, records: int, seed: int = SEED) -> Counts:
    """Return what becomes of damaged files of this name that held so many records."""
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "damaged"
        folder.mkdir()
        ending = name.partition(".")[2]
        for number, data in enumerate(damaged(name, -(-records // ROWS), seed)):
            (folder / f"{number:05d}.{ending}").write_bytes(data)
        return READERS[name](folder)


def print_files(names: list[str], records: int) -> None:
    """Print a row for each reader. Native code that crashes ends the program behind the rows of the readers before."""
    print("| file | damaged | records in them | read | kept | refused | files with a refusal | shorter, and valid |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    for name in names:
        counts = measure_files(name, records)
        in_them = counts.files if name in DOCUMENTS else counts.files * ROWS
        numbers = (counts.files, in_them, counts.read, counts.kept, counts.refused, counts.named, counts.fewer)
        print(f"| `{name}` | {' | '.join(f'{number:,}' for number in numbers)} |", flush=True)


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


def print_lines() -> None:
    """Read each file of malformed records and compare the number of records with that of lines."""
    generator = random.Random(SEED)
    files = {"a.jsonl": json_lines(generator), "a.csv": delimited(generator), "a.json": document(generator)}
    files |= {f"{name}.gz": gzip.compress(data) for name, data in files.items()}
    with tempfile.TemporaryDirectory() as folder:
        for name, data in files.items():
            path = Path(folder) / name
            path.write_bytes(data)
            measure_lines(path)
        for name, write in {"a.parquet": pl.DataFrame.write_parquet, "a.arrow": pl.DataFrame.write_ipc}.items():
            write(pl.DataFrame({"a": range(LINES)}), Path(folder) / name)
            measure_lines(Path(folder) / name)


def measure_lines(path: Path) -> None:
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


def main() -> None:
    """Read and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["lines", "files"])
    parser.add_argument("--records", type=int, default=LINES)
    parser.add_argument("--readers", nargs="+", choices=READERS, default=list(READERS))
    options = parser.parse_args()
    if options.what == "lines":
        print_lines()
    else:
        print_files(options.readers, options.records)


if __name__ == "__main__":
    main()
