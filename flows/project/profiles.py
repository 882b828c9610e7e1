"""The profiles of params/, and params.yaml, which one of them may replace."""

import shutil
from pathlib import Path

from tasks import configuration
from tasks.io.system import files, git

FOLDER = Path("params")
DEFAULT = "reasoning"
"""The profile that a fresh checkout has."""
OWN_DATA = "workstation"
"""The profile with which settings for users' own data begin."""


def by_name() -> dict[str, Path]:
    """Return the profiles, by file name. Raises FileNotFoundError if there are none here."""
    profiles = {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}
    if not profiles:
        raise FileNotFoundError(f"{Path.cwd()} has no profiles in {FOLDER}/. Run this in the folder of a workspace.")
    return profiles


def is_replaceable(params: Path) -> bool:
    """Return True if nothing would be lost: there is no such file, it equals a profile, or git has it unchanged."""
    if not params.exists():
        return True
    return any(params.read_bytes() == profile.read_bytes() for profile in by_name().values()) or git.is_committed(
        params
    )


def use(name: str, params: Path) -> None:
    """Replace the settings by a profile."""
    with files.atomic_path(params) as copy:
        shutil.copyfile(by_name()[name], copy)


def to_begin_with(params: Path) -> Path:
    """Return the settings with which a user's own data begin: these, or OWN_DATA in place of a profile of generated tasks.

    The turns of such a profile generate more tasks of the kinds of its sources, which a user's own data do not have.
    """
    settings = params.read_bytes()
    is_profile = any(profile.read_bytes() == settings for profile in FOLDER.glob("*.yaml"))
    turns = configuration.for_stage("refine", configuration.load(params)).refine
    return by_name()[OWN_DATA] if is_profile and turns.generator.from_ == "tasks" else params
