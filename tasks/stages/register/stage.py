"""Stage `register`: choose the candidate for promotion. `ratchet promote` decides.

reads   models/base/, models/pretrained/, models/tuned/, models/compressed/, data/metrics/compression.json, data/gate/<model>.parquet,
        data/rounds/<round>/examples.parquet, data/ingested/train_documents.parquet
writes  models/candidate.json (files and results of the candidate with their hashes, the terms that follow from the licences of base and
        data, and the origins of its examples; without a candidate, the reason). It holds no results on the gate set: if candidates were
        chosen by them, the set would be used more often than the gate counts.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.core.licenses.terms import Terms, combine
from tasks.core.promotion.candidate import choose, reference
from tasks.core.promotion.gate import GateConfig
from tasks.core.stage import Model, Run
from tasks.io import data_licenses, provenance
from tasks.io.weights import checkpoints, compressed
from tasks.stages.register import evidence
from tasks.stages.register.config import StageConfig


def main(inputs: dict[str, Path], outputs: dict[str, Path], config: StageConfig, run: Run) -> None:
    """Choose the candidate, and write its card."""
    compression = json.loads(inputs["compression"].read_text(encoding="utf-8"))
    name, why = choose(config.models, config.gate.candidate, compression)
    card: dict[str, Any] = {"candidate": None, "why": why}
    if name is not None and checkpoints.is_bank(Path(config.models[name].path)):
        card = {
            "candidate": None,
            "why": f"{config.models[name].path} is a bank of adapters, and a version is one model",
        }
    elif name is not None and (lacking := evidence.lacking(name, config.models[name], inputs)):
        card = {"candidate": None, "why": lacking}
    elif name is not None:
        terms = _terms(config.models[name], inputs, config.gate)
        if unknown := _unknown(terms):
            would = (
                ""
                if config.gate.licenses == "strict"
                else ". It is a candidate all the same; `gate.licenses: strict` would refuse it"
            )
            run.say(unknown + would)
        if reason := _refusal(terms, config.gate):
            card = {"candidate": None, "why": f"{reason} (`gate.licenses`)", "licenses": terms.record()}
        else:
            card = _card(name, why, inputs["gate"], config) | {
                "licenses": terms.record(),
                "origins": evidence.origins_of(config.models[name], inputs["rounds"]),
            }
    outputs["candidate"].write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    run.say(f"candidate: {card['candidate'] or 'none'} ({card['why']})")


def _terms(model: Model, inputs: Mapping[str, Path], rules: GateConfig) -> Terms:
    holders = data_licenses.holders(
        Path(model.path),
        base=inputs["start"],
        pretrained=inputs["base"],
        rounds=inputs["rounds"],
        documents=inputs["documents"],
    )
    return combine(holders, rules.license)


def _refusal(terms: Terms, rules: GateConfig) -> str:
    """Return the reason why the licences keep a model from being a candidate; empty if they do not."""
    if rules.licenses == "report":
        return ""
    return terms.conflict or (_unknown(terms) if rules.licenses == "strict" else "")


def _unknown(terms: Terms) -> str:
    """Return a sentence about what has no known licence; empty if all is known."""
    if not terms.unknown:
        return ""
    parts = [f"{name!r} of {', '.join(holders)}" for name, holders in terms.unknown.items()]
    return f"no licence is known by the name {'; '.join(parts)}. `license:` beside a source names one"


def _card(name: str, why: str, folder: Path, config: StageConfig) -> dict[str, Any]:
    files = _files(config.models[name])
    hashes = {kind: provenance.digest(Path(path)) for kind, path in files.items()}
    start = reference(config.models)
    return {
        "candidate": name,
        "why": why,
        "hash": provenance.facts_digest(hashes),
        "files": {kind: {"path": path, "hash": hashes[kind]} for kind, path in files.items()},
        "reference": start,
        "results": {known: provenance.digest(folder / f"{known}.parquet") for known in (name, start)},
        "machine": checkpoints.read_card(Path(files["model"])).get("machine", {}),
    }


def _files(model: Model) -> dict[str, str]:
    """Return the folders of a model: its own, and for an adapter or a delta, that of its base."""
    path = Path(model.path)
    is_change = checkpoints.is_adapter(path) or (path / compressed.DELTA).is_file()
    return {"model": model.path} | ({"base": model.base} if is_change else {})
