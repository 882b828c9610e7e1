"""CPU time of each step from a block of JSON lines to a shard, in microseconds a row: `python benchmarks/reading.py [--rows 20000]`.

The rows are those of one shard of `benchmarks/ingest.py`. Each step is timed alone over all rows, on the output of the previous step; the
minimum of three times is printed. `json.loads` of each line is timed too, for scale.
"""

import argparse
import hashlib
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import ingest
from tasks.core.text.shingles import hash_words
from tasks.io.sources.formats import json_lines
from tasks.io.sources.record import Row
from tasks.stages.ingest.config import File, IngestConfig
from tasks.stages.ingest.quarantine import Sourced
from tasks.stages.ingest.reading.rows.pairs import Pair, PairReader
from tasks.stages.ingest.shards import parts
from tasks.stages.ingest.shards.rows import Rows
from tasks.stages.ingest.shards.shard import SIDES

ROUNDS = 3


def least(step: Callable[[], Any]) -> tuple[float, Any]:
    """Return the least CPU time of a step, in seconds, and its result."""
    times = []
    for _ in range(ROUNDS):
        start = time.process_time()
        result = step()
        times.append(time.process_time() - start)
    return min(times), result


def steps(data: bytes, folder: Path) -> dict[str, float]:
    """Return the CPU seconds of each step over all lines."""
    source = File.model_validate({"from": "file", "path": str(folder / "rows.jsonl")})
    config, reader, seconds = IngestConfig(sources=(source,)), PairReader(source), {}
    part = next(parts.parts_of(source, config))
    seconds["digest of the bytes"], _ = least(lambda: hashlib.sha256(data).hexdigest())
    seconds["lines to objects"], rows = least(lambda: list(json_lines._quickly(data, 0)))
    seconds["objects to pairs: shape, cleaning, checks"], pairs = least(
        lambda: [reader.read(row) for row in rows if isinstance(row, Row)]
    )
    items: list[parts.Item] = [Sourced("file rows.jsonl", pair) for pair in pairs if isinstance(pair, Pair)]
    seconds["secrets and personal data"], _ = least(lambda: parts._screened(items, part, config))
    made = Rows(items, part.constants)  # type: ignore[arg-type]
    seconds["hashes by which equal rows are found"], _ = least(made.facts)
    seconds["words to hashes"], _ = least(lambda: [hash_words(made.compared(side)) for side in SIDES])
    seconds["table, with a digest of each row as its id"], frame = least(made.frame)
    path = folder / "examples.parquet"
    seconds["Parquet"], _ = least(lambda: frame.write_parquet(path, compression="lz4", statistics=False))
    return seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        ingest.write(path, options.rows)
        data = path.read_bytes()
        measured = steps(data, Path(folder))
        scale, _ = least(lambda: [json.loads(line) for line in data.splitlines()])
    for name, seconds in {**measured, "together": sum(measured.values()), "json.loads alone": scale}.items():
        print(f"| {name} | {seconds / options.rows * 1e6:.1f} |")


if __name__ == "__main__":
    main()
