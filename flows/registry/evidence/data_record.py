"""The data as Croissant describes them, with their licences: https://docs.mlcommons.org/croissant/docs/croissant-spec-1.0.html.

The tables themselves are not among the evidence. Whoever has them (`dvc pull`) reads them by this description.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from flows.registry.evidence.subject import Material, Subject
from tasks.io import data_licenses

CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
CONFORMS_TO = "http://mlcommons.org/croissant/1.0"
SPDX = "https://spdx.org/licenses/"
TYPES = {pl.String: "sc:Text", pl.Int64: "sc:Integer", pl.Float64: "sc:Float", pl.Boolean: "sc:Boolean"}
"""Types of columns that records have; of nested ones (turns, weights) the description tells the names alone."""


def of(subject: Subject) -> dict[str, Any]:
    """Return the description of all tables that the model was trained on or measured with."""
    tables = [material for material in subject.materials if material.is_table]
    license_names = sorted({license for table in tables for license in licenses(table)})
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "name": f"data of {subject.name}",
        "description": _description(tables),
        "conformsTo": CONFORMS_TO,
        "license": license_names,
        "url": "dvc.lock",
        "version": f"{subject.label if subject.label.isdecimal() else 0}.0.0",
        **({"datePublished": subject.decision.time[:10]} if subject.decision else {}),
        "distribution": [_file(table) for table in tables],
        "recordSet": [_records(table) for table in tables],
    }


def licenses(table: Material) -> list[str]:
    """Return the licences in a table."""
    return sorted({license for license, _ in data_licenses.of_table(Path(table.path))})


def _description(tables: Sequence[Material]) -> str:
    nested = sorted({name for table in tables for name, kind in _schema(table).items() if type(kind) not in TYPES})
    return (
        "Examples and texts that a model of Ratchet was trained on (`train`) and measured with (`valid`, `test`, `gate`). No group of "
        "items is in two splits. Every row has its licence and where it comes from. "
        f"Columns that are lists or records are not described here: {', '.join(nested) or 'none'}."
    )


def _file(table: Material) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": table.path,
        "name": table.path,
        "contentUrl": table.path,
        "contentSize": f"{table.bytes} B",
        "encodingFormat": "application/x-parquet",
        "sha256": table.sha256,
    }


def _records(table: Material) -> dict[str, Any]:
    name = table.path.removeprefix("data/").removesuffix(".parquet").replace("/", "-")
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"{name}/{column}",
                "name": f"{name}/{column}",
                "dataType": TYPES[type(kind)],
                "source": {"fileObject": {"@id": table.path}, "extract": {"column": column}},
            }
            for column, kind in _schema(table).items()
            if type(kind) in TYPES
        ],
    }


def _schema(table: Material) -> dict[str, Any]:
    return dict(pl.scan_parquet(table.path).collect_schema())
