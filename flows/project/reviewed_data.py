"""Collect refused records and evaluation items for review."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from tasks import configuration
from tasks.configuration import PipelineConfig
from tasks.core.records import Document, Example, Message, Refusal, Result, content_id
from tasks.io import tables

FINAL = ("leak", "duplicate")
"""Reasons that no decision overrides: models are evaluated on the record, or its copy is kept."""
KEPT = ("valid", "test", "gate")
"""The tables of ingest, beside the training data, that may contain a rescued record."""
MOST = 20_000
"""Largest number of listed refused records."""
ANSWER = 300
"""Number of shown characters of a model's answer."""


@dataclass(frozen=True)
class EvaluationItem:
    """An item on which models are measured, with the results of each model."""

    id: str
    example: Example
    """Its prompt and reference; for a text, only the text."""
    measures: Sequence[str]
    results: Mapping[str, Sequence[Result]] = field(default_factory=dict)
    """Model → its results on the item."""

    @property
    def outcomes(self) -> list[str]:
        """Return a line for each result that is not a loss: the model, the measure, the outcome of its answer, and the answer."""
        return [
            f"{model}: {row.measure} {row.outcome or f'{row.value:g}'}: {row.output[:ANSWER]}"
            for model, rows in self.results.items()
            for row in rows
            if not row.is_loss
        ]


def quarantine(config: PipelineConfig) -> Path:
    """Return the table of refused records."""
    return configuration.files("ingest", None, config)[1]["ingested"] / "quarantine.parquet"


def results(config: PipelineConfig) -> dict[str, Path]:
    """Return the existing tables of results, by model."""
    paths = {name: configuration.files("evaluate", name, config)[1]["results"] for name in config.models}
    return {name: path for name, path in paths.items() if path.is_file()}


def refused_records(config: PipelineConfig) -> dict[str, Refusal]:
    """Return the first `MOST` refused records that can be rescued, by id, in the order of their table.

    Raises FileNotFoundError if there is no such table.
    """
    can_be_rescued = (pl.col("id") != "") & ~pl.col("reason").is_in(FINAL)
    rows = tables.frame(quarantine(config), Refusal).filter(can_be_rescued).head(MOST)
    return {refusal.id: refusal for refusal in tables.records(rows, Refusal)}


def kept_examples(config: PipelineConfig, ids: Collection[str]) -> dict[str, Example]:
    """Return the examples of ingest with these ids, from any table, and also, as examples, the documents that had these ids before they were cut.

    A document that was cut into several is not found.
    """
    writes = configuration.files("ingest", None, config)[1]
    folder = writes["ingested"]
    paths = [writes["examples"], *(folder / f"{split}.parquet" for split in KEPT)]
    rows = [pl.scan_parquet(path).filter(pl.col("id").is_in(list(ids))) for path in paths if path.is_file()]
    kept = {one.id: one for frame in pl.collect_all(rows) for one in tables.records(frame, Example)}
    if kept.keys() >= set(ids):
        return kept
    documents = [folder / f"{split}_documents.parquet" for split in ("train", *KEPT)]
    texts = (one for path in documents if path.is_file() for one in tables.read(path, Document))
    return kept | {identity: _as_example(one) for one in texts if (identity := id_uncut(one)) in ids}


def id_uncut(document: Document) -> str:
    """Return the id of a whole document, by which it is refused and rescued. In tables it has the id of a piece."""
    return content_id(document.domain, document.group, document.text)


def evaluation_items(config: PipelineConfig, left_out: Collection[str]) -> dict[str, EvaluationItem]:
    """Return the items of the report's test set on which models were measured, and the items in `left_out`, by id.

    They do not include the items of the gate set, of which none can be left out. Raises FileNotFoundError if nothing was measured.
    """
    measured = {model: tables.read(path, Result) for model, path in results(config).items()}
    if not measured:
        raise FileNotFoundError("No model was measured yet. `ratchet run` does")
    by_item: dict[str, dict[str, list[Result]]] = {}
    for model, rows in measured.items():
        for row in rows:
            by_item.setdefault(row.item, {}).setdefault(model, []).append(row)
    by_item |= {item: {} for item in left_out if item not in by_item}
    texts = _texts(config, by_item)
    return {
        item: EvaluationItem(
            item,
            texts.get(item) or _nameless(item),
            list(dict.fromkeys(row.measure for rows in by_model.values() for row in rows)),
            by_model,
        )
        for item, by_model in by_item.items()
    }


def _texts(config: PipelineConfig, items: Collection[str]) -> dict[str, Example]:
    """Return the examples and texts of items, by id. Those of HumanEval are in neither table."""
    ingested = configuration.files("ingest", None, config)[1]["ingested"]
    examples = {one.id: one for one in tables.read(ingested / "test.parquet", Example) if one.id in items}
    documents = tables.read(ingested / "test_documents.parquet", Document)
    return {one.id: _as_example(one) for one in documents if one.id in items} | examples


def _as_example(document: Document) -> Example:
    return Example(
        document.id, [Message("assistant", document.text)], "text", document.domain, document.group, document.split,
        document.source, document.license,
    )  # fmt: skip


def _nameless(item: str) -> Example:
    return Example(item, [Message("assistant", "")], "text", "", item, "test", item, "")
