"""Read 100,000 malformed lines, and 100,000 records in damaged files, with every reader: none is lost, and none ends in a traceback.

    python benchmarks/malformed.py [lines|files] [--records 100000] [--readers rows.xlsx …]

`lines` writes one file of each format of records that are malformed themselves, and ingests it: as many are read as there are, and each is
kept or refused. `files` damages valid files of 100 records (bits flipped, runs overwritten, cut out, doubled and swapped, ends cut off and
replaced; of archives also inside) until so many records stand in damaged files, and ingests them as a folder, a query, a repository or a
corpus, of which a document is one record. Of each file, the records read must be those kept and those refused, or the file is refused with
its reason. Prints a table of counts for each reader.
"""

import argparse
import bz2
import gzip
import lzma
import random
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from benchmarks.damaged_files import (
    DATABASES,
    DOCUMENTS,
    FOLDERS,
    MODULES,
    ROWS,
    TABLES,
    Rows,
    arrow,
    binary_workbook_parts,
    damaged,
    damaged_folders,
    database,
    open_document_parts,
    parquet,
    records_in,
    repository,
    saved,
    tarred,
    workbook_parts,
    zipped,
)  # fmt: skip
from tasks.core.records import Refusal
from tasks.stages.ingest.config import Datasets, File, Folder, IngestConfig, Query, Repository
from tasks.stages.ingest.mining.candidates import Candidate
from tasks.stages.ingest.reading.documents import read_documents
from tasks.stages.ingest.reading.examples import mine_functions, python_modules, read_rows
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
    """Records that were read from the files, and refusals of those that could not be read."""
    kept: int
    refused: int
    named: int
    """Files that were refused as a whole or in part, with a reason."""
    fewer: int
    """Files that gave fewer records than they held before, and no refusal: damage that leaves a valid, shorter file."""


def damaged_tables(folder: Path, records: int) -> Counts:
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
    return _counted(labels, read, kept, refused, records)


def damaged_databases(folder: Path, records: int) -> Counts:
    """Ask each database of a folder for all rows."""
    read, kept, refused = Counter[str](), Counter[str](), Counter[str]()
    labels = [file.name for file in sorted(folder.iterdir())]
    for label in labels:
        query = "SELECT * FROM chats ORDER BY number"
        source = Query.model_validate({"from": "query", "database": str(folder / label), "query": query})
        _count_rows(source, label, read, kept, refused)
    return _counted(labels, read, kept, refused, records)


def damaged_documents(folder: Path, records: int) -> Counts:
    """Read a folder of damaged documents as a corpus. A document is one record."""
    source = Folder.model_validate({"from": "folder", "path": str(folder)})
    read, kept, refused = Counter[str](), Counter[str](), Counter[str]()
    for record in read_documents(source, "domain"):
        place = record.where if isinstance(record, Refusal) else record.source
        label = place.split(": ")[-1].split(" ")[0]
        read[label] += 1
        (refused if isinstance(record, Refusal) else kept)[label] += 1
    return _counted([file.name for file in sorted(folder.iterdir())], read, kept, refused, records)


def _file_of(place: str) -> str:
    """Return the file of a place in a folder: `folder damaged: a.py:f`, or with a space before the function of one that was refused."""
    return re.split("[ :]", place.partition(": ")[2])[0]


def damaged_modules(folder: Path, records: int) -> Counts:
    """Mine the functions of a folder of damaged modules. A module that is no Python is one refusal; each is a document of a corpus too."""
    source = Folder.model_validate({"from": "folder", "path": str(folder), "functions": "documented"})
    modules = python_modules(source)
    read, kept, refused = Counter[str](), Counter[str](), Counter[str]()
    for record in mine_functions(source, modules):
        example = record.example if isinstance(record, Candidate) else record
        label = _file_of(example.source)
        read[label] += 1
        (refused if isinstance(example, Refusal) else kept)[label] += 1
    labels = [file.name for file in sorted(folder.iterdir())]
    assert sorted(_file_of(document.source) for document in read_documents(source, "domain")) == labels  # type: ignore[union-attr]
    return _counted(labels, read, kept, refused, records)


def damaged_data_sets(folder: Path, records: int) -> Counts:
    """Read each data set that was saved to disk."""
    read, kept, refused = Counter[str](), Counter[str](), Counter[str]()
    labels = [path.name for path in sorted(folder.iterdir())]
    for label in labels:
        source = Datasets.model_validate({"from": "datasets", "path": str(folder / label)})
        _count_rows(source, label, read, kept, refused)
    return _counted(labels, read, kept, refused, records)


def damaged_repositories(folder: Path, records: int) -> Counts:
    """Read the files of each git repository at the commit that its undamaged copy has."""
    read, kept, refused = Counter[str](), Counter[str](), Counter[str]()
    labels = [path.name for path in sorted(folder.iterdir())]
    revision = (
        repository()[".git/refs/heads/" + repository()[".git/HEAD"].decode().strip().rpartition("/")[2]]
        .decode()
        .strip()
    )
    for label in labels:
        source = Repository.model_validate({"from": "repository", "path": str(folder / label), "revision": revision})
        try:
            for record in read_documents(source, "domain"):
                read[label] += 1
                (refused if isinstance(record, Refusal) else kept)[label] += 1
        except ValueError:  # it says which repository cannot be read, and why
            read[label] += 1
            refused[label] += 1
    return _counted(labels, read, kept, refused, records)


def _count_rows(
    source: Query | Datasets, label: str, read: Counter[str], kept: Counter[str], refused: Counter[str]
) -> None:
    """Count the rows of a source that is one database or data set."""
    try:
        for _, record in read_rows(source, 0):
            read[label] += 1
            (refused if isinstance(record, Refusal) else kept)[label] += 1
    except ValueError:  # it says what cannot be read, and why
        read[label] += 1
        refused[label] += 1


def _counted(labels: list[str], read: Counter[str], kept: Counter[str], refused: Counter[str], records: int) -> Counts:
    """Return the counts for files that held `records` records each. Raises AssertionError if a record is not accounted for."""
    for label in labels:
        assert read[label], f"{label}: lost"
        assert read[label] == kept[label] + refused[label], f"{label}: read is not kept and refused"
    assert set(read) == set(labels), sorted(set(read) - set(labels))
    fewer = [label for label in labels if kept[label] < records and not refused[label]]
    named = sum(refused[label] > 0 for label in labels)
    return Counts(len(labels), read.total(), kept.total(), refused.total(), named, len(fewer))


READERS: dict[str, Callable[[Path, int], Counts]] = {
    **dict.fromkeys(TABLES, damaged_tables),
    **dict.fromkeys(DATABASES, damaged_databases),
    **dict.fromkeys(DOCUMENTS, damaged_documents),
    **dict.fromkeys(MODULES, damaged_modules),
    "data set on disk": damaged_data_sets,
    "git repository": damaged_repositories,
}


def measure_files(name: str, records: int, seed: int = SEED) -> Counts:
    """Return the counts for damaged files of this name that held the given number of records."""
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "damaged"
        folder.mkdir()
        copies = -(-records // ROWS)
        if name in FOLDERS:
            for number, files in enumerate(damaged_folders(name, copies, seed)):
                _write_folder(folder / f"{number:05d}", files)
        else:
            ending = name.partition(".")[2]
            for number, data in enumerate(damaged(name, copies, seed)):
                (folder / f"{number:05d}.{ending}").write_bytes(data)
        return READERS[name](folder, records_in(name))


def _write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def print_files(names: list[str], records: int) -> None:
    """Print a row for each reader. If native code crashes, the program ends after the rows of earlier readers."""
    print("| file | damaged | records in them | read | kept | refused | files with a refusal | shorter, and valid |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    for name in names:
        counts = measure_files(name, records)
        numbers = (
            counts.files,
            counts.files * records_in(name),
            counts.read,
            counts.kept,
            counts.refused,
            counts.named,
            counts.fewer,
        )
        print(f"| `{name}` | {' | '.join(f'{number:,}' for number in numbers)} |", flush=True)


def json_lines(draw: random.Random, number: int) -> bytes:
    """Return malformed lines of JSON."""
    lines = [draw.choice(SPOILT).encode() + bytes([draw.randrange(33, 256)]) for _ in range(number)]
    return b"\n".join(lines)


def delimited(draw: random.Random, number: int, delimiter: str) -> bytes:
    """Return records with one field too few, one field too many, or text after a closing quote."""
    wrong = ["x", "x,y,z", 'x,"y" z']
    return ("q,a\n" + "\n".join(draw.choice(wrong) for _ in range(number))).replace(",", delimiter).encode()


def document(draw: random.Random, number: int) -> bytes:
    """Return a JSON list of malformed objects."""
    spoilt = [b'{"q" "x"}', b'{"q": }', b"{q: 1}", b"[1]", b'{"q": [1 2]}']
    return b"[" + b",\n".join(draw.choice(spoilt) for _ in range(number)) + b"]"


def rows(draw: random.Random, number: int, *, is_xml: bool = False) -> Rows:
    """Return rows that are mostly not conversations: empty cells, white space, NUL (which XML cannot hold), replacement characters."""
    cells = ["", " ", "\t\n", "\ufffd", "caf\ufffd", "x" * 4_100, "yes", *([] if is_xml else ["\x00", "a\x00b"])]
    return [{"prompt": draw.choice(cells), "completion": draw.choice(cells), "row": f"{n}"} for n in range(number)]


def line_files(number: int) -> Iterator[tuple[str, bytes | dict[str, bytes]]]:
    """Yield the name of each file of so many malformed records and its bytes, of a folder its files."""
    draw = random.Random(SEED)
    lines, values, xml_values = json_lines(draw, number), rows(draw, number), rows(draw, number, is_xml=True)
    list_of_objects = document(draw, number)
    commas, tabs, semicolons = (delimited(draw, number, delimiter) for delimiter in ",\t;")
    yield "rows.jsonl", lines
    yield "rows.json", list_of_objects
    yield "rows.csv", commas
    yield "rows.tsv", tabs
    yield "utf16.csv", semicolons.decode().encode("utf-16")
    yield "rows.jsonl.gz", gzip.compress(lines)
    yield "rows.csv.bz2", bz2.compress(commas)
    yield "rows.json.xz", lzma.compress(list_of_objects)
    yield "rows.jsonl.zst", pa.compress(lines, codec="zstd", asbytes=True)
    yield "rows.zip", zipped({"a.jsonl": lines})
    yield "rows.tar", tarred({"a.jsonl": lines})
    yield "rows.xlsb", zipped(binary_workbook_parts(values))
    yield "rows.xlsx", zipped(workbook_parts(xml_values))
    yield "rows.ods", zipped(open_document_parts(xml_values))
    yield "rows.parquet", parquet(values=values)
    yield "rows.arrow", arrow(values)
    yield "stream.arrow", arrow(values, is_stream=True)
    yield "rows.sqlite", database("sqlite", values)
    yield "rows.duckdb", database("duckdb", values)
    yield "data set on disk", saved(values)


def measure_lines(number: int, names: Collection[str] = READERS) -> Iterator[tuple[str, Counts, float]]:
    """Yield the counts for malformed records of each format, and the seconds. Raises AssertionError if a record is lost."""
    for name, data in line_files(number):
        if name not in names:
            continue
        with tempfile.TemporaryDirectory() as root:
            folder = Path(root) / "malformed"
            folder.mkdir()
            if isinstance(data, bytes):
                (folder / name).write_bytes(data)
            else:
                _write_folder(folder / name, data)
            start = time.process_time()
            counts = READERS[name](folder, number)
        assert counts.read == number, f"{name}: {number - counts.read} lost"
        yield name, counts, time.process_time() - start


def print_lines(names: Collection[str], number: int) -> None:
    """Print a row for each reader of malformed records."""
    print("| file | read | kept | refused | a CPU-second |\n| --- | --- | --- | --- | --- |", flush=True)
    for name, counts, seconds in measure_lines(number, names):
        numbers = (counts.read, counts.kept, counts.refused, round(number / seconds))
        print(f"| `{name}` | {' | '.join(f'{number:,}' for number in numbers)} |", flush=True)


def main() -> None:
    """Read and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["lines", "files"])
    parser.add_argument("--records", type=int, default=LINES)
    parser.add_argument("--readers", nargs="+", choices=READERS, default=list(READERS))
    options = parser.parse_args()
    if options.what == "lines":
        print_lines(options.readers, options.records)
    else:
        print_files(options.readers, options.records)


if __name__ == "__main__":
    main()
