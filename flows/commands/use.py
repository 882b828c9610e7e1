"""`ratchet use`."""

import difflib
import itertools
import shutil
from pathlib import Path
from typing import Annotated

import typer

from flows.commands import _completion

PROFILES = Path("params")
PARAMS = Path("params.yaml")


def use(
    profile: Annotated[
        str,
        typer.Argument(help="A file of params/, without its ending.", autocompletion=_completion.profiles),
    ],
    force: Annotated[bool, typer.Option("--force", help="Overwrite your edits of params.yaml.")] = False,
) -> None:
    """Make a profile of params/ the settings of this workspace.

    Shows its first lines: what it is, and what it needs first.

    Example: ratchet use tiny
    """
    from tasks import configuration
    from tasks.io.system import files

    profiles = {path.stem: path for path in sorted(PROFILES.glob("*.yaml"))}
    if profile not in profiles:
        near = difflib.get_close_matches(profile, profiles, n=2)
        hint = f"Did you mean {' or '.join(near)}?" if near else f"There are: {', '.join(profiles)}."
        raise ValueError(f"{PROFILES} has no profile {profile!r}. {hint}")
    configuration.load(profiles[profile])
    if not force and PARAMS.exists() and not _replaceable(list(profiles.values())):
        raise ValueError(
            f"{PARAMS} holds edits that are in no profile and no commit. Commit it, save it as {PROFILES}/NAME.yaml, "
            f"or overwrite it: ratchet use {profile} --force"
        )
    with files.atomic_path(PARAMS) as copy:
        shutil.copyfile(profiles[profile], copy)
    about = itertools.takewhile(lambda line: line.startswith("#"), PARAMS.read_text(encoding="utf-8").splitlines())
    for line in about:
        typer.echo(line.removeprefix("#").removeprefix(" "))
    typer.echo(f"{PARAMS} is {profiles[profile]} now. `ratchet plan` shows what that changes.")


def _replaceable(profiles: list[Path]) -> bool:
    """Return True if nothing would be lost: the file equals a profile, or git holds it as it is."""
    from tasks.io.system import git

    return any(PARAMS.read_bytes() == profile.read_bytes() for profile in profiles) or git.is_committed(PARAMS)
