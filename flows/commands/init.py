"""`ratchet init`."""

from pathlib import Path
from typing import Annotated, Any

import typer

SHOWN = 300
"""Characters of a message that are shown."""
FEW = 10
"""Groups below which three splits make no sense."""


def init(
    path: Annotated[
        Path, typer.Argument(help="A table (JSONL, JSON, CSV, Parquet), or a folder of code, texts or tables.")
    ],
) -> None:
    """Take your own data: show five rows, copy it, name it in params.yaml.

    Example: ratchet init ~/chats.jsonl, then ratchet run
    """
    from flows import adoption
    from tasks import settings

    settings.load()
    sources = adoption.detect(path)
    found = adoption.preview(sources)
    _show(found)
    if sources.examples and found["groups"] < FEW:
        raise ValueError(
            f"{path}: {found['kept']} usable records in {found['groups']} groups (files, threads, rows) are too few to train on "
            f"and to measure by; {FEW} groups would do. Nothing was changed."
        )
    target = adoption.copy(path)
    changed = adoption.write(sources.moved(path, target), settings.PARAMS)
    typer.echo(f"The data are in {target}, and params.yaml names them ({', '.join(changed)}).")
    if not sources.examples:
        typer.echo("These are texts alone: the examples stay those of the profile, the corpus is yours.")
    typer.echo("Next: ratchet run")


def _show(found: dict[str, Any]) -> None:
    for number, row in enumerate(found["rows"], 1):
        typer.echo(f"── {number}: {row['source']}\n{_short(row['prompt'])}\n→ {_short(row['response'])}")
    for refusal in found["refusals"]:
        typer.echo(f"refused: {refusal['where']}: {refusal['reason']}: {refusal['detail']}")
    refused = ", ".join(f"{count} {reason}" for reason, count in found["refused"].items())
    refused = f"; refused: {refused}" if refused else ""
    total = found["kept"] + sum(found["refused"].values())
    typer.echo(f"── of {total} records read, {found['kept']} can be used{refused}")


def _short(text: str) -> str:
    from tasks.core.visible import visible

    return visible(text, SHOWN)
