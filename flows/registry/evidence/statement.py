"""Provenance as an in-toto statement with the predicate of SLSA: https://slsa.dev/spec/v1.0/provenance.

It claims build level 1 and no more: the builder is the workspace that signs, so nothing but the key keeps anybody from writing another.
"""

import platform
from importlib import metadata
from pathlib import Path
from typing import Any

from flows.registry.evidence import layout
from flows.registry.evidence.subject import Subject
from tasks.io import provenance

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
PAYLOAD = "application/vnd.in-toto+json"
BUILD_TYPE = "urn:ratchet:dvc-repro:v1"
BUILDER = "urn:ratchet:workspace"


def of(subject: Subject, folder: Path) -> dict[str, Any]:
    """Return the statement about the model's files in `folder`, beside which the other records of the evidence stand already."""
    return {
        "_type": STATEMENT,
        "subject": [_described(folder, path) for path in layout.model_files(folder)],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {"model": subject.entry, "stages": subject.parameters},
                "internalParameters": {"machine": subject.model_card.get("machine", {})},
                "resolvedDependencies": [*_commit(subject), *_materials(subject)],
            },
            "runDetails": {
                "builder": {"id": BUILDER, "version": _versions()},
                "byproducts": [
                    _described(folder, folder / name) for name in layout.RECORDS if (folder / name).is_file()
                ],
            },
        },
    }


def _described(folder: Path, path: Path) -> dict[str, Any]:
    return {"name": path.relative_to(folder).as_posix(), "digest": {"sha256": provenance.digest(path)}}


def _commit(subject: Subject) -> list[dict[str, Any]]:
    """Return the commit of the workspace, if there is one. It has no address: one may hold a password."""
    known = subject.commit != "none"
    return [{"name": "workspace", "digest": {"gitCommit": subject.commit}}] if known else []


def _materials(subject: Subject) -> list[dict[str, Any]]:
    """Return what stages read. The code is among it file by file, so that it counts even where the commit had other code."""
    return [{"name": file.path, "digest": {"sha256": file.sha256, "md5": file.md5}} for file in subject.materials]


def _versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {
        name: metadata.version(name) for name in ("ratchet-llm", "dvc") if _is_installed(name)
    }


def _is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
