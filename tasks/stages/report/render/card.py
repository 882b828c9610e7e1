"""The header of the model card: metadata in the format of Hugging Face's hub, with the results of the leading model.

https://github.com/huggingface/hub-docs/blob/main/modelcard.md
"""

import re
from collections.abc import Iterator
from typing import Any

from huggingface_hub.repocard_data import EvalResult, ModelCardData

from tasks.core.records import PASS
from tasks.stages.report import number_format
from tasks.stages.report.data.comparison import HUMAN_EVAL, LOSSES, SCORE, Comparison, Row
from tasks.stages.report.data.report_data import ReportData

ORDER = ["license", "license_name", "library_name", "pipeline_tag", "base_model", "tags", "model-index"]
LICENSES = frozenset(
    [
        "afl-3.0",
        "agpl-3.0",
        "apache-2.0",
        "artistic-2.0",
        "bigcode-openrail-m",
        "bigscience-bloom-rail-1.0",
        "bigscience-openrail-m",
        "bsd",
        "bsd-2-clause",
        "bsd-3-clause",
        "bsd-3-clause-clear",
        "bsl-1.0",
        "cc",
        "cc-by-2.0",
        "cc-by-2.5",
        "cc-by-3.0",
        "cc-by-4.0",
        "cc-by-nc-2.0",
        "cc-by-nc-3.0",
        "cc-by-nc-4.0",
        "cc-by-nc-nd-3.0",
        "cc-by-nc-nd-4.0",
        "cc-by-nc-sa-2.0",
        "cc-by-nc-sa-3.0",
        "cc-by-nc-sa-4.0",
        "cc-by-nd-4.0",
        "cc-by-sa-3.0",
        "cc-by-sa-4.0",
        "cc0-1.0",
        "creativeml-openrail-m",
        "ecl-2.0",
        "epl-1.0",
        "epl-2.0",
        "eupl-1.1",
        "eupl-1.2",
        "gemma",
        "gfdl",
        "gpl",
        "gpl-2.0",
        "gpl-3.0",
        "isc",
        "lgpl",
        "lgpl-2.1",
        "lgpl-3.0",
        "llama2",
        "llama3",
        "llama3.1",
        "llama3.2",
        "llama3.3",
        "llama4",
        "lppl-1.3c",
        "mit",
        "mpl-2.0",
        "ms-pl",
        "ncsa",
        "odbl",
        "odc-by",
        "ofl-1.1",
        "openrail",
        "osl-3.0",
        "pddl",
        "postgresql",
        "unknown",
        "unlicense",
        "wtfpl",
        "zlib",
    ]
)
"""The hub's names of licences, https://huggingface.co/docs/hub/repositories-licenses; any other is `other` with a name."""

ITEMS = {
    "domain": "held-out examples of the domain",
    "domain_text": "held-out texts of the domain",
    "general": "held-out general texts",
    PASS: "held-out tasks of the domain",
}
"""Measure → the items on which it was measured."""


def card_header(data: ReportData) -> str:
    """Return the metadata as YAML, without the lines around it."""
    base = data.base.get("source", {})
    results = list(_results(data.comparisons[data.lead]))
    card = ModelCardData(
        **_license(base.get("license") or "unknown"),
        library_name="transformers",
        pipeline_tag="text-generation",
        base_model=base["id"] if base.get("from") == "hub" else None,
        tags=["ratchet", "domain-adaptation"],
        model_name=data.leading,
        eval_results=results or None,
    )
    return card.to_yaml(original_order=ORDER)


def slug(text: str) -> str:
    """Return a licence in the hub's spelling: `apache-2.0`."""
    return re.sub(r"[^a-z0-9.+]+", "-", text.lower()).strip("-")


def _license(text: str) -> dict[str, Any]:
    name = slug(text)
    return {"license": name} if name in LICENSES else {"license": "other", "license_name": name}


def _results(comparison: Comparison) -> Iterator[EvalResult]:
    for row in comparison.rows:
        estimate = row.after.record()
        if row.unit in ("bits/byte", SCORE) or estimate["value"] is None:
            continue
        part = f" ({row.part})" if row.part else ""
        unit = " %" if row.unit == number_format.PER_CENT else " nats per token"
        yield EvalResult(
            task_type="text-generation",
            dataset_type="ratchet-held-out",
            dataset_config=f"{row.measure}{part}",  # the hub groups results with equal type, config and split under one name
            dataset_name=f"{_items_in_words(row)}, {row.items:,} {'item' if row.items == 1 else 'items'}",
            dataset_split="test",
            metric_type=_metric(row),
            metric_name=f"{row.title}{part}{unit}, interval {number_format.interval(row.after, row.unit)}",
            metric_value=round(100 * estimate["value"], 2) if row.unit == number_format.PER_CENT else estimate["value"],
        )


def _items_in_words(row: Row) -> str:
    """Return a text about the items of a row; items of HumanEval belong to no domain."""
    if row.measure.startswith(HUMAN_EVAL):
        return "HumanEval"
    items = ITEMS.get(row.measure, "held-out items of the domain")
    return f"{items}: {row.part}" if row.part not in ("", "all") else items


def _metric(row: Row) -> str:
    if row.measure in LOSSES:
        return "loss"
    return PASS if row.measure.endswith(PASS) else slug(row.measure)
