"""Check folders that DVC does not track against a digest in the settings."""

from pathlib import Path

from tasks.io import provenance
from tasks.io.weights import checkpoints


def check(folder: Path, actual: str, expected: str, setting: str) -> None:
    """Raise ValueError if the folder's digest is not the one in the setting."""
    if actual != expected:
        raise ValueError(
            f"{folder} does not hold what {setting} names ({expected[:12] or 'nothing'}). "
            f"If you mean what is there now, write `digest: {actual}`."
        )


def digest(folder: Path) -> str:
    """Return one hash of the folder of a model or an adapter, for a setting `digest`."""
    kinds = ("*.safetensors", "*.gguf", "*.json", "*.jinja", checkpoints.NAMED_TEMPLATES)
    files = [file for kind in kinds for file in folder.glob(kind) if file.name != checkpoints.CARD]
    return provenance.facts_digest({file.relative_to(folder).as_posix(): provenance.digest(file) for file in files})
