"""Check folders that DVC does not watch against the digest that the settings name."""

from pathlib import Path


def check(folder: Path, actual: str, expected: str, setting: str) -> None:
    """Raise ValueError if the folder's digest is not the one that the setting names."""
    if actual != expected:
        raise ValueError(
            f"{folder} does not hold what {setting} names ({expected[:12] or 'nothing'}). "
            f"If you mean what is there now, write `digest: {actual}`."
        )
