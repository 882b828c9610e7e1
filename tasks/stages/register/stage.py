"""Stage `register`: choose the candidate for promotion. `ratchet promote` decides.

reads   models/pretrained/, models/tuned/, models/compressed/, data/metrics/compression.json, data/gate/<model>.parquet
writes  models/candidate.json (files and results of the candidate with their hashes; without a candidate, the reason). It holds no
        results on the gate set: choosing among candidates by them would use the set more often than the gate counts.
"""

import json
from pathlib import Path
from typing import Any

from tasks.core.candidate import choose, reference
from tasks.core.stage import Model, Run
from tasks.io import provenance
from tasks.io.weights import checkpoints, compressed
from tasks.stages.register.config import StageConfig


def main(inputs: dict[str, Path], outputs: dict[str, Path], config: StageConfig, run: Run) -> None:
    """Choose the candidate, and write its card."""
    compression = json.loads(inputs["compression"].read_text(encoding="utf-8"))
    name, why = choose(config.models, config.gate.candidate, compression)
    card = {"candidate": None, "why": why} if name is None else _card(name, why, inputs["gate"], config)
    outputs["candidate"].write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    run.say(f"candidate: {name or 'none'} ({why})")


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
