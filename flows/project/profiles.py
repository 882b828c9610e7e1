"""The profiles of params/, and params.yaml, which one of them may replace."""

from pathlib import Path

from tasks.io.system import git

FOLDER = Path("params")


def by_name() -> dict[str, Path]:
    """Return the profiles, by file name. Raises FileNotFoundError if there are none here."""
    profiles = {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}
    if not profiles:
        raise FileNotFoundError(f"{Path.cwd()} has no profiles in {FOLDER}/. Run this in the folder of a workspace.")
    return profiles


def is_replaceable(params: Path) -> bool:
    """Return True if nothing would be lost: there is no such file, it equals a profile, or git holds it as it is."""
    if not params.exists():
        return True
    return any(params.read_bytes() == profile.read_bytes() for profile in by_name().values()) or git.is_committed(
        params
    )
