"""`ratchet review`."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from flows.commands import _completion, _terminal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from flows.project.review import Proposal
    from tasks.core.records import Decision

CHOICES: dict[str, Literal["accept", "edit", "reject"]] = {"a": "accept", "e": "edit", "r": "reject"}
QUESTION = "[a]ccept, [e]dit, [r]eject, [s]kip, [q]uit"


def review(
    turn: Annotated[
        str | None,
        typer.Argument(
            help="The round that a turn made, such as r1; else the last one.", autocompletion=_completion.turns
        ),
    ] = None,
    refused: Annotated[
        bool, typer.Option("--refused", help="Review refused rewrites instead of accepted ones.")
    ] = False,
    start: Annotated[int, typer.Option(min=1, help="Begin at this one of the undecided rewrites.")] = 1,
    author: Annotated[str | None, typer.Option(help="Who decides; default: git's user.name.")] = None,
    web: Annotated[bool, typer.Option("--web", help="On a page at 127.0.0.1; its address holds a token.")] = False,
    port: Annotated[int, typer.Option(help="The port of the page; 0 is any free one.", min=0, max=65535)] = 8765,
) -> None:
    """Review the rewrites of the loop, each beside its original.

    Accept, edit ($EDITOR) or reject. Each decision is saved at once, in data/review_decisions.jsonl, and not asked again; the next run
    applies it. With --web, also review records that ingest refused, and evaluation items.

    Example: ratchet review, or ratchet review r1 --refused, or ratchet review --web
    """
    from flows.project import review
    from tasks import configuration

    config = configuration.load()
    name = turn or next(reversed(config.turns), None)
    if web:
        from flows.review_page import server
        from flows.review_page.entries import Turn

        server.run(Turn(name, config), author or _git_name(), port, refused=refused, start=start)
        return
    if name is None:
        raise ValueError("The loop has one round, so nothing was rewritten. `ratchet rounds 2` adds a turn.")
    file = configuration.files("refine", name, config)[0]["decisions"]
    proposals = review.undecided(review.proposals(name, config, refused=refused), file)
    if not proposals:
        typer.echo(f"{name}: no proposal waits for a decision.")
        return
    who, decided = author or _git_name(), 0
    try:
        for number, proposal in enumerate(proposals[start - 1 :], start):
            typer.echo(f"\n━━ {number} of {len(proposals)} · {review.as_text(proposal)}\n")
            decision = _ask(proposal, who)
            if decision and (other := _add(file, decision)):
                typer.echo(f"{other.author} decided on it meanwhile ({other.decision}). Nothing was written.")
            elif decision:
                decided += 1
    except typer.Abort:
        typer.echo("\nStopped. `ratchet review` goes on with what is not decided yet.")
    typer.echo(f"{decided} decided, in {file}. `ratchet run` applies them.")


def _add(file: "Path", decision: "Decision") -> "Decision | None":
    """Append a decision to the file; if somebody else has decided since the question was asked, return that decision instead."""
    from tasks.io import review_decisions

    others: list[Decision] = []

    def add(history: "Mapping[str, Sequence[Decision]]") -> "Sequence[Decision]":
        other = review_decisions.decision_that_counts(history.get(decision.id, ()))
        others.extend([other] if other else [])
        return [] if other else [decision]

    review_decisions.record(file, add)
    return next(iter(others), None)


def _ask(proposal: "Proposal", author: str) -> "Decision | None":
    """Ask a person for a decision on a proposal; None if they skip it. Raises typer.Abort if they quit."""
    from datetime import UTC, datetime

    from flows.review_page import edits
    from tasks.core.records import Decision

    while True:
        key = _terminal.ask(QUESTION).strip().lower()[:1]
        if key == "q":
            raise typer.Abort
        if key == "s":
            return None
        if key == "e" and (proposal.after or proposal.before).messages[-1].tool_calls:
            typer.echo(edits.CALL)
            continue
        text = _edited(proposal.response) if key == "e" else ""
        if key in CHOICES and (text or key != "e"):
            reason = _terminal.ask("Reason", default="", show_default=False)
            time = datetime.now(UTC).isoformat(timespec="seconds")
            return Decision(proposal.lineage.reviewed, CHOICES[key], author, reason, text, time)


def _edited(text: str) -> str:
    """Return a text as a person edited it; empty if they left it unchanged, emptied it, or have no editor."""
    import os
    import shlex
    import shutil
    import subprocess
    import tempfile
    from pathlib import Path

    editor = shlex.split(os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi")
    if not shutil.which(editor[0]):
        typer.echo(f"There is no editor {editor[0]!r} here. EDITOR=… ratchet review names another.")
        return ""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "response.md"
        file.write_bytes(text.encode())  # writing text would change its line ends
        subprocess.run([*editor, str(file)], check=False)
        try:
            edited = file.read_bytes().decode()
        except UnicodeDecodeError:
            typer.echo("The edited file is not UTF-8. Nothing was edited.")
            return ""
    if not text.endswith("\n"):
        edited = edited.removesuffix("\n").removesuffix("\r")  # editors add a line end to the last line
    if edited == text or not edited.strip():
        typer.echo("Nothing was edited.")
        return ""
    return edited


def _git_name() -> str:
    """Return git's user.name, or the name of this machine's user. Raises ValueError without either."""
    import getpass

    from tasks.io.system import git

    try:
        return git.user_name() or getpass.getuser()
    except (KeyError, OSError):  # a user without an entry in the password database, as in a container
        raise ValueError("Neither git nor this machine knows your name. Give it with --author NAME.") from None
