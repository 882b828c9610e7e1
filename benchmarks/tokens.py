"""Tokens that do not fit in memory: `python benchmarks/tokens.py [--model models/base] [--tokens 40000000] [--folder DIR]`.

A table of examples (English of Python's own manual, some 230 tokens each) is tokenised, laid out in packs, and its first batches are
made, as stage `tune` does it, in a process of its own: at one size, and at four times the size. Then once more, from the store that
the first run left. `--given 1000000000` writes a store of so many tokens without a tokenizer, for a size that takes too long to
tokenise here, and lays it out.

Memory is the anonymous memory of the process (`RssAnon`), sampled twenty times a second: its peak, and for comparison its value after
imports and loading the tokenizer. Seconds to the first batch count from there.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import polars as pl

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.ingest import anonymous_kb, family  # noqa: E402

TOKENS_OF_ROW = 230
PROMPT_WORDS, ANSWER_WORDS = 30, 105
PACK_TOKENS = 2048
ROWS_AT_ONCE = 10_000

MEASURED = """
import json, sys, time
from pathlib import Path

import numpy as np

from benchmarks.ingest import anonymous_kb
from tasks.core.sequences import Encoded
from tasks.core.training import Training
from tasks.engine import encode, tokenized
from tasks.engine.training.batches import PackDataset, lay_out
from tasks.io import token_store
from tasks.io.token_store import Tokenized
from tasks.io.weights import checkpoints
from tests.support import ScratchRun

folder, model, given, pack_tokens = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
tokenizer = checkpoints.load_tokenizer(model)
before = anonymous_kb("self")
start, cpu = time.perf_counter(), time.process_time()
if given:
    one = Encoded("0" * 16, [7] * 400, [0.0] * 100 + [1.0] * 300, 1200, "chat", "given")
    rows = lambda contents: (Tokenized([one], "given") for _ in range(contents.rows, given // 400))
    sequences = tokenized.Stored(token_store.open_or_make(folder / "store", (), rows, print))
else:
    encoder = encode.ExampleEncoder(tokenizer, pack_tokens, "all")
    sequences, _ = tokenized.stored_examples(folder / "examples.parquet", model, encoder, ScratchRun(folder), "tokens")
stored_s, stored_cpu = time.perf_counter() - start, time.process_time() - cpu
tokens = int(sequences.tokens.sum(dtype=np.int64))
batches = lay_out(sequences, tuple(sequences.facts.tasks.present), (), Training(max_tokens=10**12, pack_tokens=pack_tokens))
dataset = PackDataset(batches)
dataset[0]
first_s = time.perf_counter() - start
start = time.perf_counter()
read = sum(dataset[index]["input_ids"].shape[1] for index in range(1, min(400, len(dataset))))
print(json.dumps({
    "tokens": tokens, "sequences": len(sequences), "packs": len(dataset), "before_kb": before, "stored_s": stored_s, "stored_cpu": stored_cpu,
    "first_s": first_s, "read_per_s": read / (time.perf_counter() - start),
}))
"""


def examples(number: int, seed: int) -> Iterator[pl.DataFrame]:
    """Yield a table of examples in frames."""
    from tasks.core.records import Example, Message
    from tasks.io import columns

    draw, words = random.Random(seed), " ".join(topics.values()).split()

    def text(length: int) -> str:
        start = draw.randrange(len(words) - length)
        return " ".join(words[start : start + length])

    def example(place: int) -> Example:
        messages = [Message("user", text(PROMPT_WORDS)), Message("assistant", text(ANSWER_WORDS))]
        group = f"row {place}"
        return Example(f"{place:016x}", messages, "chat", f"file {place % 5}", group, "train", group, "PSF-2.0")

    for start in range(0, number, ROWS_AT_ONCE):
        yield columns.frame([example(place) for place in range(start, min(start + ROWS_AT_ONCE, number))], Example)


def measure(folder: Path, model: Path, given: int = 0) -> dict[str, Any]:
    """Tokenise and lay out in a process of its own, and return its figures with the peak of its memory."""
    command = [sys.executable, "-c", MEASURED, *map(str, (folder, model, given, PACK_TOKENS))]
    peak_kb = 0
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            peak_kb = max(peak_kb, sum(map(anonymous_kb, family(process.pid))))
            time.sleep(0.05)
        output = process.stdout.read() if process.stdout else ""
    if process.returncode:
        raise SystemExit(process.returncode)
    figures: dict[str, Any] = json.loads(output.splitlines()[-1])
    return figures | {"peak_kb": peak_kb}


def report(name: str, figures: dict[str, Any]) -> None:
    """Print the figures of a run."""
    print(
        f"{name}: {figures['tokens']:,} tokens in {figures['sequences']:,} sequences, {figures['packs']:,} packs: "
        f"first batch after {figures['first_s']:.1f} s (store {figures['stored_s']:.1f} s, "
        f"{figures['tokens'] / figures['stored_cpu']:,.0f} tokens per CPU-second), "
        f"peak {figures['peak_kb'] / 1024:,.0f} MiB, {figures['before_kb'] / 1024:,.0f} before; "
        f"batches are read at {figures['read_per_s']:,.0f} tokens/s",
        flush=True,
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", type=Path, default=Path("models/base"), help="folder of the model whose tokenizer it is"
    )
    parser.add_argument(
        "--tokens", type=int, default=40_000_000, help="the smaller of the two sizes; 0 leaves both out"
    )
    parser.add_argument("--given", type=int, default=0, help="size of a store without a tokenizer")
    parser.add_argument("--folder", type=Path, help="where everything is written; it is removed at the end")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        for times in (1, 4) if options.tokens else ():
            place = folder / f"{times}"
            tokenise(place, options.model.resolve(), times * options.tokens // TOKENS_OF_ROW, f"{times}×")
            shutil.rmtree(place)
        if options.given:
            (folder / "given").mkdir()
            report("given", measure(folder / "given", options.model.resolve(), options.given))
            report("given, from the store", measure(folder / "given", options.model.resolve(), options.given))
    finally:
        shutil.rmtree(folder)


def tokenise(folder: Path, model: Path, rows: int, name: str) -> None:
    """Measure a table of the given number of rows, the first time and from the store."""
    from tasks.core.records import Example
    from tasks.io import tables

    folder.mkdir()
    tables.sink(folder / "examples.parquet", lambda: examples(rows, seed=0), Example)
    report(name, measure(folder, model))
    size = sum(path.stat().st_size for path in (folder / "cache" / "tokens").rglob("*"))
    print(
        f"{name}: table {(folder / 'examples.parquet').stat().st_size / 2**20:,.0f} MiB, store {size / 2**20:,.0f} MiB"
    )
    report(f"{name}, from the store", measure(folder, model))


if __name__ == "__main__":
    main()
