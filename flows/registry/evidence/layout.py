"""The files of a folder of evidence."""

import json
from pathlib import Path
from typing import Any

FOLDER = Path("models/evidence")
CARD = "README.md"
BOM = "bom.cdx.json"
PROVENANCE = "provenance.intoto.json"
DATA = "croissant.json"
DECISION = "decision.json"
LICENSES = "licenses.json"
LOCK = "dvc.lock"
ENVIRONMENT = "requirements.txt"
SIGNING_KEY = "signing_key.pub"
SIGNATURE = "model.sig"
MODEL, BASE = "model", "base"
RECORDS = (CARD, BOM, DATA, DECISION, LICENSES, LOCK, ENVIRONMENT)
"""Files beside the model's own that the provenance names by their hashes."""


def model_files(folder: Path) -> list[Path]:
    """Return the files of the model, and of its base where that is among the evidence."""
    return sorted(path for kind in (MODEL, BASE) for path in (folder / kind).rglob("*") if path.is_file())


def as_json(record: Any) -> str:
    """Return a record as the text of a file."""
    return json.dumps(record, indent=1, ensure_ascii=False) + "\n"


def read_json(path: Path) -> Any:
    """Return the contents of a JSON file. Raises ValueError that names a file which holds none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path.name} is no JSON: {error}") from None
