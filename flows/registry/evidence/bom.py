"""The bill of materials as CycloneDX 1.6: the model with its results, its base, its data and the packages that made it.

https://cyclonedx.org/docs/1.6/json/. The library for Python has no class of a model card, so the JSON is written here, and its validator
checks it.
"""

import uuid
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from flows.registry.evidence import data_record, layout
from flows.registry.evidence.environment import InstalledPackage
from flows.registry.evidence.subject import Material, Subject
from tasks.core.licenses import expressions
from tasks.core.licenses.terms import Terms
from tasks.io import data_licenses, provenance
from tasks.io.weights import checkpoints

SPEC = "1.6"
MODEL, BASE = "model", "base-model"
START = Path("models/base")
"""The base model."""
UNITS = {"share": "share of items"}


def of(subject: Subject, folder: Path, terms: Terms, installed: list[InstalledPackage]) -> dict[str, Any]:
    """Return the bill of materials of the model whose files lie in `folder`."""
    data = [_table(material) for material in subject.materials if material.is_table]
    packages = [_package(package) for package in installed]
    model = _model(subject, folder, terms, [component["bom-ref"] for component in data])
    refs = [BASE, *(component["bom-ref"] for component in [*data, *packages])]
    return {
        "$schema": f"http://cyclonedx.org/schema/bom-{SPEC}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPEC,
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'urn:ratchet:{_identity(folder)}')}",
        "version": 1,
        "metadata": {
            **({"timestamp": subject.decision.time} if subject.decision else {}),
            "tools": {"components": [_tool()]},
            "component": model,
        },
        "components": [_base(), *data, *packages],
        "dependencies": [{"ref": MODEL, "dependsOn": sorted(refs)}, *({"ref": ref} for ref in sorted(refs))],
    }


def _identity(folder: Path) -> str:
    """Return a hash of the model's files: the same model has the same serial number."""
    return provenance.facts_digest(
        {path.relative_to(folder).as_posix(): provenance.digest(path) for path in layout.model_files(folder)}
    )


def _model(subject: Subject, folder: Path, terms: Terms, data: list[str]) -> dict[str, Any]:
    return {
        "bom-ref": MODEL,
        "type": "machine-learning-model",
        "name": subject.name.partition("@")[0],
        "version": subject.label,
        "licenses": [{"expression": " OR ".join(terms.licenses)}] if terms.licenses else [],
        "components": [
            {
                "bom-ref": path.relative_to(folder).as_posix(),
                "type": "file",
                "name": path.relative_to(folder).as_posix(),
                "hashes": [{"alg": "SHA-256", "content": provenance.digest(path)}],
            }
            for path in layout.model_files(folder)
        ],
        "modelCard": {
            "modelParameters": {
                "approach": {"type": "supervised"},
                "task": "text-generation",
                **_architecture(folder),
                "datasets": [{"ref": ref} for ref in data],
                "inputs": [{"format": "text"}],
                "outputs": [{"format": "text"}],
            },
            "quantitativeAnalysis": {"performanceMetrics": [*_report_metrics(subject), *_gate_metrics(subject)]},
            "considerations": {
                "technicalLimitations": [
                    "The results hold for the held-out items and the way of asking that the model card names.",
                    "Programs and answers that the model writes can be wrong or harmful.",
                ]
            },
        },
        "properties": list(_properties(subject, folder, terms)),
    }


def _architecture(folder: Path) -> dict[str, str]:
    """Return family and class of the network, as the config of the model or of its base has them."""
    configs = [folder / kind / "config.json" for kind in (layout.MODEL, layout.BASE)]
    config: dict[str, Any] = next((layout.read_json(path) for path in configs if path.is_file()), {})
    names = {
        "architectureFamily": config.get("model_type"),
        "modelArchitecture": (config.get("architectures") or [None])[0],
    }
    return {key: str(value) for key, value in names.items() if value}


def _report_metrics(subject: Subject) -> Iterator[dict[str, Any]]:
    for row in subject.results:
        if row["after"]["value"] is not None:
            part = f", {row['part']}" if row["part"] else ""
            yield _metric(
                f"{row['measure']} ({UNITS.get(row['unit'], row['unit'])})",
                f"test, {row['items']} items{part}",
                row["after"],
            )


def _gate_metrics(subject: Subject) -> Iterator[dict[str, Any]]:
    for check in subject.decision.checks if subject.decision else ():
        if check["worse_by"]:
            kind = f"{check['measure']}: worse by than {check['bar']}"
            yield _metric(kind, f"gate, {check['items']} items", check["worse_by"])


def _metric(kind: str, part: str, estimate: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": kind,
        "value": str(estimate["value"]),
        "slice": part,
        "confidenceInterval": {"lowerBound": str(estimate["low"]), "upperBound": str(estimate["high"])},
    }


def _properties(subject: Subject, folder: Path, terms: Terms) -> Iterator[dict[str, str]]:
    facts = {
        "ratchet:gate": f"{subject.decision.verdict}: {subject.decision.reason}" if subject.decision else "not judged",
        "ratchet:terms": terms.sentence,
        "ratchet:commit": subject.commit,
        "ratchet:excluded": ", ".join(excluded(subject)) or "nothing",
    }
    for kind in (layout.MODEL, layout.BASE):
        template = folder / kind / "chat_template.jinja"
        if template.is_file():
            facts[f"ratchet:chat_template:{kind}:sha256"] = provenance.digest(template)
    yield from ({"name": name, "value": value} for name, value in facts.items())


def excluded(subject: Subject) -> list[str]:
    """Return what `ratchet forget` took out of the data that this model was trained on."""
    ingest = subject.parameters.get("ingest", {}).get("params.yaml", {}).get("ingest", {})
    return [str(entry) for entry in ingest.get("exclude", [])]


def _base() -> dict[str, Any]:
    card = checkpoints.read_card(START)
    source = card.get("source", {})
    name = source.get("id") or source.get("name") or "base"
    return {
        "bom-ref": BASE,
        "type": "machine-learning-model",
        "name": str(name),
        **(
            {"version": str(source.get("revision") or source.get("version"))}
            if source.get("revision") or source.get("version")
            else {}
        ),
        "hashes": [{"alg": "SHA-256", "content": checkpoints.weights_digest(START)}],
        "licenses": _licenses(data_licenses.of_base(START)),
        "properties": [
            {"name": "ratchet:hash", "value": "of names and SHA-256 of the files of weights, as ratchet.json has it"}
        ],
    }


def _table(table: Material) -> dict[str, Any]:
    return {
        "bom-ref": table.path,
        "type": "data",
        "name": table.path,
        "hashes": [{"alg": "MD5", "content": table.md5}, {"alg": "SHA-256", "content": table.sha256}],
        "licenses": _licenses(*data_record.licenses(table)),
        "data": [{"type": "dataset", "name": table.path, "contents": {"url": table.path}}],
    }


def _package(package: InstalledPackage) -> dict[str, Any]:
    purl = f"pkg:pypi/{package.name}@{package.version}"
    return {
        "bom-ref": purl,
        "type": "library",
        "name": package.name,
        "version": package.version,
        "purl": purl,
        "licenses": _licenses(package.license),
    }


def _licenses(*names: str) -> list[dict[str, Any]]:
    """Return licences that all hold: as one expression if all are known, else by their names. What is unknown is left out."""
    stated = [name for name in names if name and name != expressions.UNKNOWN]
    if stated and all(map(expressions.is_known, stated)):
        return [{"expression": " AND ".join(_in_brackets(expressions.canonical(name), len(stated)) for name in stated)}]
    return [{"license": {"name": " ".join(name.split())}} for name in stated]


def _in_brackets(expression: str, parts: int) -> str:
    return f"({expression})" if parts > 1 and " OR " in expression else expression


def _tool() -> dict[str, str]:
    return {"type": "application", "name": "ratchet-llm", "version": _version("ratchet-llm")}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "unknown"
