"""Check a folder of evidence: its signatures, and that each record says of the others what they are."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from flows.execution.dvc import lock_file, lock_graph
from flows.registry import history, versions
from flows.registry.evidence import layout, signing, statement
from tasks.io import provenance


def problems(folder: Path, keys: Sequence[str]) -> list[str]:
    """Return what does not hold in a folder of evidence, by these public keys; none if all does."""
    missing = [
        name for name in (layout.PROVENANCE, layout.BOM, layout.DATA, layout.LOCK) if not (folder / name).is_file()
    ]
    if missing:
        return [f"{name} is missing" for name in missing]
    unsigned = signing.folder_problem(folder, keys)
    result = [unsigned] if unsigned else []
    try:
        for problem in _unlike(folder, _claims(folder, keys)):
            result.append(problem)  # one at a time: those before a record that cannot be read stay
    except ValueError as error:
        result.append(str(error))
    except (KeyError, TypeError, AttributeError) as error:
        result.append(f"a record has another shape than evidence has: {type(error).__name__} {error}")
    return result


def workspace_problems(folder: Path) -> list[str]:
    """Return where the evidence of a version disagrees with this workspace's history and version store. What is missing or damaged in the
    folder disagrees too, and stops no other check.
    """
    if not folder.name.isdecimal():
        return []
    number = int(folder.name)
    try:
        past = history.read()
    except ValueError as error:
        return [str(error)]
    # One that was promoted again keeps its first evidence: what it was made from then need not be here now.
    promotions = [line for line in past.decisions if (line.version, line.verdict) == (number, "promoted")]
    if not promotions:
        return [f"{history.HISTORY} has no promotion of version {number}"]
    result = []
    if _decision(folder) not in [line.model_dump(mode="json") for line in promotions]:
        result.append(f"{layout.DECISION} is not the decision that {history.HISTORY} has on version {number}")
    stored, own = versions.folder(number) / layout.LOCK, folder / layout.LOCK
    if stored.is_file() and own.is_file() and stored.read_bytes() != own.read_bytes():
        result.append(f"{layout.LOCK} is not the one that version {number} was promoted with")
    return result


def _decision(folder: Path) -> Any:
    """Return the decision in a folder of evidence; None where it cannot be read."""
    try:
        return _json(folder, layout.DECISION)
    except (FileNotFoundError, ValueError):
        return None


def _claims(folder: Path, keys: Sequence[str]) -> dict[str, Any]:
    """Return the statement of the provenance. Raises ValueError unless a trusted key signed it and it is one of SLSA."""
    try:
        claims = json.loads(signing.opened(_json(folder, layout.PROVENANCE), keys))
    except ValueError as error:
        raise ValueError(f"{layout.PROVENANCE}: {error}") from None
    if (claims["_type"], claims["predicateType"]) != (statement.STATEMENT, statement.PREDICATE):
        raise ValueError(f"{layout.PROVENANCE} holds a {claims['predicateType']}, not a {statement.PREDICATE}")
    return dict(claims)


def _unlike(folder: Path, claims: dict[str, Any]) -> Iterator[str]:
    """Yield where files and records disagree with the signed provenance or with each other."""
    stated = _digests(claims["subject"])
    for name, digest in {**stated, **_digests(claims["predicate"]["runDetails"]["byproducts"])}.items():
        if not (folder / name).is_file():
            yield f"{name} is missing"
        elif provenance.digest(folder / name) != digest:
            yield f"{name} is not what {layout.PROVENANCE} was signed for"
    present = {path.relative_to(folder).as_posix() for path in layout.model_files(folder)}
    yield from (
        f"{name} is not among what {layout.PROVENANCE} was signed for" for name in sorted(present - stated.keys())
    )
    materials = _digests(claims["predicate"]["buildDefinition"]["resolvedDependencies"])
    yield from _bom_problems(_json(folder, layout.BOM), stated, materials)
    yield from _data_problems(_json(folder, layout.DATA), materials)
    yield from _lock_problems(folder / layout.LOCK, claims)
    if (folder / layout.DECISION).is_file():
        yield from _decision_problems(folder)


def _bom_problems(bom: dict[str, Any], stated: dict[str, str], materials: dict[str, str]) -> Iterator[str]:
    files = {part["name"]: _sha256(part) for part in bom["metadata"]["component"]["components"]}
    if files != stated:
        yield f"{layout.BOM} lists other files of the model than {layout.PROVENANCE}"
    for part in bom["components"]:
        if part["type"] == "data" and materials.get(part["name"]) != _sha256(part):
            yield f"{layout.BOM} has another hash of {part['name']} than {layout.PROVENANCE}"


def _data_problems(record: dict[str, Any], materials: dict[str, str]) -> Iterator[str]:
    for file in record["distribution"]:
        if materials.get(file["contentUrl"]) != file["sha256"]:
            yield f"{layout.DATA} has another hash of {file['contentUrl']} than {layout.PROVENANCE}"


def _lock_problems(lock: Path, claims: dict[str, Any]) -> Iterator[str]:
    """Compare settings and inputs with those of dvc.lock, whose hashes are MD5."""
    try:
        stages = lock_file.stages(lock)
    except yaml.YAMLError:
        yield f"{layout.LOCK} is no YAML"
        return
    build = claims["predicate"]["buildDefinition"]
    for stage, parameters in build["externalParameters"]["stages"].items():
        if json.loads(json.dumps(stages.get(stage, {}).get("params"))) != parameters:
            yield f"{layout.LOCK} has other settings of {stage} than {layout.PROVENANCE}"
    md5_of = {
        entry["name"]: entry["digest"]["md5"] for entry in build["resolvedDependencies"] if "md5" in entry["digest"]
    }
    for stage in stages.values():
        for path, digest in lock_graph.hashes(stage, "deps").items():
            if path in md5_of and md5_of[path] != digest:
                yield f"{layout.LOCK} has another hash of {path} than {layout.PROVENANCE}"


def _decision_problems(folder: Path) -> Iterator[str]:
    decision = _json(folder, layout.DECISION)
    for kind, digest in decision["files"].items():
        if not (folder / kind).is_dir() or provenance.digest(folder / kind) != digest:
            yield f"{layout.DECISION} is about other files than those in {kind}"


def _digests(described: list[dict[str, Any]]) -> dict[str, str]:
    return {entry["name"]: entry["digest"]["sha256"] for entry in described if "sha256" in entry.get("digest", {})}


def _sha256(component: dict[str, Any]) -> str:
    return next((str(part["content"]) for part in component["hashes"] if part["alg"] == "SHA-256"), "")


def _json(folder: Path, name: str) -> Any:
    return layout.read_json(folder / name)
