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
    from flows.project import data_import
    from tasks import configuration

    configuration.load()
    sources = data_import.detect(path)
    preview = data_import.preview(sources)
    _show(preview)
    if sources.examples and preview["groups"] < FEW:
        raise ValueError(
            f"{path}: {preview['kept']} usable records in {preview['groups']} groups (files, threads, rows) are too few to train on "
            f"and to measure by; {FEW} groups would do. Nothing was changed."
        )
    target = data_import.copy_data(path)
    changed = data_import.write_sources(sources.moved(path, target), configuration.PARAMS)
    typer.echo(f"The data are in {target}, and params.yaml names them ({', '.join(changed)}).")
    if not sources.examples:
        typer.echo("These are texts alone: the examples stay those of the profile, the corpus is yours.")
    typer.echo("Next: ratchet run")


def _show(preview: dict[str, Any]) -> None:
    for number, row in enumerate(preview["rows"], 1):
        typer.echo(f"── {number}: {row['source']}\n{_short(row['prompt'])}\n→ {_short(row['response'])}")
    for refusal in preview["refusals"]:
        typer.echo(f"refused: {refusal['where']}: {refusal['reason']}: {refusal['detail']}")
    refused = ", ".join(f"{count} {reason}" for reason, count in preview["refused"].items())
    refused = f"; refused: {refused}" if refused else ""
    total = preview["kept"] + sum(preview["refused"].values())
    typer.echo(f"── of {total} records read, {preview['kept']} can be used{refused}")


def _short(text: str) -> str:
    from tasks.core.text.visible import visible

    return visible(text, SHOWN)
