"""`ratchet use`."""

import difflib
import itertools
from typing import Annotated

import typer

from flows.commands import _completion


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
    from flows.execution import workspace_lease
    from flows.project import profiles
    from tasks import configuration

    params, known = configuration.PARAMS, profiles.by_name()
    if profile not in known:
        near = difflib.get_close_matches(profile, known, n=2)
        hint = f"Did you mean {' or '.join(near)}?" if near else f"There are: {', '.join(known)}."
        raise ValueError(f"{profiles.FOLDER} has no profile {profile!r}. {hint}")
    configuration.load(known[profile])
    if not force and not profiles.is_replaceable(params):
        raise ValueError(
            f"{params} holds edits that are in no profile and no commit. Commit it, save it as {profiles.FOLDER}/NAME.yaml, "
            f"or overwrite it: ratchet use {profile} --force"
        )
    with workspace_lease.writing():
        profiles.use(profile, params)
    about = itertools.takewhile(lambda line: line.startswith("#"), params.read_text(encoding="utf-8").splitlines())
    for line in about:
        typer.echo(line.removeprefix("#").removeprefix(" "))
    typer.echo(f"{params} is {known[profile]} now. `ratchet plan` shows what that changes.")
