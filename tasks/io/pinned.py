"""Check what DVC does not watch against the digest that the settings name."""

from pathlib import Path

from tasks.io import provenance
from tasks.io.weights import checkpoints


def check(folder: Path, actual: str, expected: str, setting: str) -> None:
    """Raise ValueError if the folder's digest is not the one that the setting names."""
    if actual != expected:
        raise ValueError(
            f"{folder} does not hold what {setting} names ({expected[:12] or 'nothing'}). "
            f"If you mean what is there now, write `digest: {actual}`."
        )


def digest(folder: Path) -> str:
    """Return one hash over the folder of a model or an adapter, which a setting `digest` names."""
    files = [file for kind in ("*.safetensors", "*.gguf", "*.json", "*.jinja") for file in folder.glob(kind)]
    return provenance.facts_digest(
        {file.name: provenance.digest(file) for file in files if file.name != checkpoints.CARD}
    )
