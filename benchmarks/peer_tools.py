"""The tools that `benchmarks/peers.py` compares: each task as ingest does it and as each other tool does, in its own environment.

A function imports its tool, prepares what is not measured, and returns what is: a function that reads `path` and writes below `out`.
"""

import hashlib
import json
import os
import re
import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LENGTH, PERMUTATIONS, BANDS, ROWS_OF_A_BAND, SIMILARITY = 3, 128, 32, 4, 0.7
RUN = 13
"""Words that a training text and one that is held out must not have in common."""
SPLITS = ("train", "valid", "test")


# What every tool is given where it has nothing of its own.


def normalised(text: str) -> str:
    """Return the text in NFC with single spaces."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def split_of(text: str) -> str:
    """Return the split of a text, by its hash."""
    share = int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) / 2**32
    return "train" if share < 0.75 else "valid" if share < 0.85 else "test"


def runs(text: str) -> Iterator[str]:
    """Yield the runs of `RUN` words of a text."""
    words = text.lower().split()
    return (" ".join(words[start : start + RUN]) for start in range(len(words) - RUN + 1))


def runs_of(texts: Iterable[str]) -> set[str]:
    """Return all runs of some texts."""
    return {run for text in texts for run in runs(text)}


# The tools. Each reads `path` and writes `out/<split>.parquet` with a column `line`; it runs in its own environment.


def prepare_ratchet(path: Path, out: Path) -> Callable[[], None]:
    """Return stage `ingest` of this project on a file."""
    sys.path.insert(0, str(ROOT))
    import polars as pl

    from tasks.stages.ingest import stage
    from tasks.stages.ingest.config import StageConfig
    from tests.support import ScratchRun

    config = StageConfig.model_validate({
        "compute": {"threads": 1},
        "ingest": {"sources": [{"from": "file", "path": str(path)}], "near_duplicates": {"cosine": None}},
    })  # fmt: skip
    outputs = {"ingested": out / "ingested", "examples": out / "ingested/train.parquet"}

    def run() -> None:
        (out / "ingested").mkdir()
        stage.main({"embedder": out, "raw": out, "decisions": Path(os.devnull)}, outputs, config, ScratchRun(out))
        line = pl.col("source").str.split(" ").list.last().cast(pl.Int64).alias("line")
        for split in SPLITS:
            pl.scan_parquet(out / f"ingested/{split}.parquet").select(line).sink_parquet(out / f"{split}.parquet")

    return run


def prepare_datatrove(path: Path, out: Path) -> Callable[[], None]:
    """Return a chain of datatrove's executors."""
    import numpy as np
    from datatrove.data import Document
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.decont.n_grams import NGramsDecontConfig, NGramsDecontFilter
    from datatrove.pipeline.dedup import (
        ExactDedupConfig,
        ExactDedupFilter,
        ExactDedupSignature,
        ExactFindDedups,
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
        MinhashDedupSignature,
    )
    from datatrove.pipeline.dedup.minhash import MinhashConfig
    from datatrove.pipeline.filters import LambdaFilter
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import ParquetWriter
    from datatrove.utils.hashing import create_hash_func
    from datatrove.utils.text import ngrams, simplify_text
    from datatrove.utils.word_tokenizers import WordTokenizer
    from loguru import logger

    class Words(WordTokenizer):
        """Cut at white space, which is faster than any tokenizer that datatrove brings."""

        def word_tokenize(self, text: str) -> list[str]:
            return text.split()

        def sent_tokenize(self, text: str) -> list[str]:
            return text.splitlines()

        def span_tokenize(self, text: str) -> list[tuple[int, int]]:
            return [match.span() for match in re.finditer(r"\S+", text)]

    logger.remove()
    words = Words()
    near = MinhashConfig(n_grams=LENGTH, num_buckets=BANDS, hashes_per_bucket=ROWS_OF_A_BAND)
    exact = ExactDedupConfig(content_getter=lambda document: document.text)
    decontamination = NGramsDecontConfig(n_grams=RUN)
    (out / "raw").mkdir()
    shutil.copy(path, out / "raw/rows.jsonl")

    def adapted(reader: Any, row: dict[str, Any], _path: str, place: int) -> dict[str, Any]:
        text = f"{normalised(row['question'])}\n{normalised(row['answer'])}"
        return {"text": text, "id": str(place + 1), "metadata": {"line": place + 1, "split": split_of(text)}}

    def read() -> JsonlReader:
        return JsonlReader(str(out / "raw"), adapter=adapted)

    def execute(*steps: Any, tasks: int = 1) -> None:
        logs = str(out / "logs")  # else `logs` of the current folder
        LocalPipelineExecutor(list(steps), tasks=tasks, workers=1, skip_completed=False, logging_dir=logs).run()

    def kept() -> list[Any]:
        return [read(), ExactDedupFilter(str(out / "exact"), exact), MinhashDedupFilter(str(out / "removed"))]

    def index(documents: Iterable[Document], rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Write the n-grams of held-out texts, as `NGramsDecontIndexer` does for the tasks of a harness."""
        hashed, hashes = create_hash_func(decontamination.hash_config), set()
        for document in documents:
            tokens = words.word_tokenize(simplify_text(document.text))
            hashes |= {hashed(" ".join(run)) for run in ngrams(tokens, RUN)}
            yield document
        (out / "index").mkdir()
        np.array(list(hashes), decontamination.hash_config.np_descr).tofile(out / "index/held.index.hashes")

    def lines(writer: Any, document: Document) -> dict[str, Any]:
        return {"line": document.metadata["line"]}

    def written() -> ParquetWriter:
        return ParquetWriter(str(out), "${split}.parquet", compression=None, adapter=lines)

    def run() -> None:
        execute(read(), ExactDedupSignature(str(out / "exact_signatures"), exact))
        execute(ExactFindDedups(str(out / "exact_signatures"), str(out / "exact"), exact))
        execute(
            read(),
            ExactDedupFilter(str(out / "exact"), exact),
            MinhashDedupSignature(str(out / "signatures"), near, language=words),
        )
        execute(MinhashDedupBuckets(str(out / "signatures"), str(out / "buckets"), config=near), tasks=BANDS)
        execute(MinhashDedupCluster(str(out / "buckets"), str(out / "removed"), near))
        execute(*kept(), LambdaFilter(lambda row: row.metadata["split"] != "train"), index, written())
        clean = NGramsDecontFilter(str(out / "index"), decontamination, language=words)
        execute(*kept(), LambdaFilter(lambda row: row.metadata["split"] == "train"), clean, written())

    return run


def prepare_juicer(path: Path, out: Path) -> Callable[[], None]:
    """Return Data-Juicer's operators one after the other."""
    os.environ["HF_HOME"] = str(out / "home")
    from data_juicer.core.data import NestedDataset
    from data_juicer.ops.deduplicator.document_deduplicator import DocumentDeduplicator
    from data_juicer.ops.deduplicator.document_minhash_deduplicator import DocumentMinhashDeduplicator
    from data_juicer.ops.mapper.whitespace_normalization_mapper import WhitespaceNormalizationMapper
    from datasets import Dataset
    from loguru import logger

    logger.remove()
    near = {"num_permutations": PERMUTATIONS, "num_bands": BANDS, "num_rows_per_band": ROWS_OF_A_BAND}

    def run() -> None:
        rows = Dataset.from_json(str(path), cache_dir=str(out / "cache"))
        rows = NestedDataset(rows.map(_as_text, with_indices=True, remove_columns=rows.column_names))
        steps = [
            WhitespaceNormalizationMapper(num_proc=1),
            DocumentDeduplicator(num_proc=1),
            DocumentMinhashDeduplicator(window_size=LENGTH, jaccard_threshold=SIMILARITY, num_proc=1, **near),
        ]
        _split_and_write(rows.process(steps, open_monitor=False), out)

    return run


def prepare_datasets(path: Path, out: Path) -> Callable[[], None]:
    """Return `datasets.map` and `filter` with datasketch."""
    os.environ["HF_HOME"] = str(out / "home")
    from datasets import Dataset

    is_new = _datasketch()

    def run() -> None:
        seen: set[str] = set()
        rows = Dataset.from_json(str(path), cache_dir=str(out / "cache"))
        rows = rows.map(_as_text, with_indices=True, remove_columns=rows.column_names)
        rows = rows.filter(lambda text: text not in seen and not seen.add(text), input_columns="text")
        rows = rows.filter(is_new, input_columns="text")
        _split_and_write(rows, out)

    return run


def _as_text(row: dict[str, str], place: int) -> dict[str, Any]:
    return {"text": f"{normalised(row['question'])}\n{normalised(row['answer'])}", "line": place + 1}


def _split_and_write(rows: Any, out: Path) -> None:
    """Split rows of `datasets`, leave out contaminated ones, and write the rest."""
    rows = rows.map(lambda text: {"split": split_of(text)}, input_columns="text")
    parts = {split: rows.filter(lambda name, split=split: name == split, input_columns="split") for split in SPLITS}
    held_out = runs_of(text for split in ("valid", "test") for text in parts[split]["text"])
    parts["train"] = parts["train"].filter(lambda text: held_out.isdisjoint(runs(text)), input_columns="text")
    for split, part in parts.items():
        part.select_columns(["line"]).to_parquet(str(out / f"{split}.parquet"))


def _datasketch() -> Callable[[str], bool]:
    """Return a function that is True for a text that is no near-duplicate of an earlier one, by MinHashLSH."""
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(num_perm=PERMUTATIONS, params=(BANDS, ROWS_OF_A_BAND))

    def is_new(text: str) -> bool:
        words = text.lower().split()
        signature = MinHash(num_perm=PERMUTATIONS)
        signature.update_batch([" ".join(words[n : n + LENGTH]).encode() for n in range(len(words) - LENGTH + 1)])
        if index.query(signature):
            return False
        index.insert(len(index.keys), signature)
        return True

    return is_new


def _texts(path: Path) -> list[str]:
    return [f"{row['question']}\n{row['answer']}" for row in map(json.loads, path.read_text().splitlines())]


def duplicates_ratchet(path: Path, out: Path) -> Callable[[], None]:
    """Return the search for near-duplicates of this project on texts in memory."""
    sys.path.insert(0, str(ROOT))
    import numpy as np

    from tasks.core.text.near_duplicates import Limits, find_near_duplicates
    from tasks.core.text.texts import Selection, Texts
    from tasks.stages.ingest.filtering.duplicates import merge_classes

    texts = _texts(path)

    def run() -> None:
        ranks, judged = np.ones(len(texts), np.int8), np.zeros(len(texts), np.uint64)
        limits = Limits(SIMILARITY, LENGTH, 1, len(texts))
        likeness = find_near_duplicates(Selection.all(Texts.of(texts)), limits, ranks, out)
        removed = merge_classes([likeness], np.zeros((0, 2), np.int64), ranks, judged)
        _write_kept((place for place in range(len(texts)) if place not in removed), out)

    return run


def duplicates_datasketch(path: Path, out: Path) -> Callable[[], None]:
    """Return datasketch on texts in memory."""
    is_new, texts = _datasketch(), _texts(path)

    def run() -> None:
        _write_kept([place for place, text in enumerate(texts) if is_new(text)], out)

    return run


def _write_kept(places: Iterable[int], out: Path) -> None:
    (out / "kept.json").write_text(json.dumps([place + 1 for place in places]))


def read_ratchet(path: Path, out: Path) -> Callable[[], None]:
    """Return the reading of a file into shards."""
    sys.path.insert(0, str(ROOT))
    from tasks.stages.ingest.config import File, IngestConfig
    from tasks.stages.ingest.shards.collection import Reader
    from tasks.stages.ingest.shards.parts import parts_of
    from tests.support import ScratchRun

    source = File.model_validate({"from": "file", "path": str(path)})
    config = IngestConfig(sources=(source,))

    def run() -> None:
        reader = Reader(config, out / "cache", out, ScratchRun(out))
        shards, _ = reader.read(list(parts_of(source, config)))
        _write_kept(range(sum(shard.rows for shard in shards)), out)

    return run


def read_from_json(path: Path, out: Path) -> Callable[[], None]:
    """Return `Dataset.from_json` alone."""
    os.environ["HF_HOME"] = str(out / "home")
    from datasets import Dataset

    return lambda: _write_kept(range(len(Dataset.from_json(str(path), cache_dir=str(out / "cache")))), out)


def read_and_map(path: Path, out: Path) -> Callable[[], None]:
    """Return `Dataset.from_json` and the normalisation by `map`."""
    os.environ["HF_HOME"] = str(out / "home")
    from datasets import Dataset

    def run() -> None:
        rows = Dataset.from_json(str(path), cache_dir=str(out / "cache"))
        _write_kept(range(len(rows.map(_as_text, with_indices=True, remove_columns=rows.column_names))), out)

    return run


TASKS: dict[str, dict[str, tuple[str, Callable[[Path, Path], Callable[[], None]]]]] = {
    "prepare": {
        "ratchet": ("", prepare_ratchet),
        "datatrove": ("datatrove", prepare_datatrove),
        "Data-Juicer": ("juicer", prepare_juicer),
        "datasets + datasketch": ("datasets", prepare_datasets),
    },
    "duplicates": {"ratchet": ("", duplicates_ratchet), "datasketch": ("datasets", duplicates_datasketch)},
    "read": {
        "ratchet": ("", read_ratchet),
        "datasets.from_json": ("datasets", read_from_json),
        "datasets.from_json + map": ("datasets", read_and_map),
    },
}
"""Task → tool → its environment (none is this one), and what makes it ready to run."""
