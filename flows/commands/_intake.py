"""Examine a person's own data before they are imported: `ratchet init` and `ratchet new` show the same and ask the same questions."""

import json
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.commands import _terminal

if TYPE_CHECKING:
    from flows.project.data_import import Sources

SHOWN = 300
"""Characters of a message that are shown."""
NAMES = 12
"""Names of columns that are shown."""
PROGRAM = "{%"
"""A Jinja statement: templates that contain one are too long to show in a question; params.yaml shows them."""
FEW = 3
"""The least number of groups of examples, for train, valid and test; and of texts, for train, test and gate."""
COLUMNS = "--prompt COLUMN --response COLUMN"

Prompt = Annotated[
    str | None, typer.Option(help="The column of prompts, or a Jinja template of columns: '{{ title }}: {{ body }}'.")
]
Response = Annotated[str | None, typer.Option(help="The column of responses, or a template.")]
Messages = Annotated[str | None, typer.Option(help="The column of conversations, in place of both.")]
Rejected = Annotated[str | None, typer.Option(help="The column of worse responses, where there are preferences.")]
Header = Annotated[
    bool | None,
    typer.Option(
        "--header/--no-header",
        help="The first row of a CSV or Excel table names the columns, or is a record. Without both, this is detected.",
    ),
]
Query = Annotated[str | None, typer.Option(help="What to read of a database: one SELECT with an ORDER BY.")]


@dataclass(frozen=True)
class Intake:
    """Data that were examined and are not imported yet."""

    path: Path | None
    """Their place on this machine; None for a database on a server."""
    sources: "Sources"
    preview: Mapping[str, Any]

    def take(self) -> tuple["Sources", Path | None]:
        """Copy the data to data/raw. Returns their sources there, and that place; None for a database on a server."""
        from flows.project import data_import

        sources = self.sources.checked(self.preview["checks"]).with_splits(self.preview["splits"])
        sources = sources.with_groups(self.preview["groups_by"])
        if self.path is None:
            return sources, None
        target = data_import.copy_data(self.path)
        return sources.moved(self.path, target), target


@contextmanager
def examined(
    place: str,
    columns: Mapping[str, str | None],
    query: str | None,
    call: str,
    *,
    yes: bool,
    header: bool | None = None,
    limits: Sequence[int] = (),
) -> Iterator[Intake]:
    """Yield the data of a place after showing their rows. Columns with unusual names are guessed, and the user confirms the guess.

    `call` is the command that was given, which messages repeat; `yes` takes a guess without a question; `header` says whether the first row
    of a table names the columns; `limits` are the longest prompt, response and part of a text that the settings allow; without `limits`
    the defaults hold. Raises FileNotFoundError or ValueError if there is nothing to train on.
    """
    from flows.project import data_import

    named = {name: value for name, value in columns.items() if value is not None}
    with data_import.on_disk(place) as path:
        sources = data_import.detect(path, query, header) if path else data_import.detect_on_server(place, query)
        for line in sources.files:
            typer.echo(line)
        sources = sources.with_columns(named) if named else sources
        preview = data_import.preview(sources, limits)
        if any(preview["guesses"]):
            call = f"{call} --query {shlex.quote(query)}" if query else call
            call = call if header is None else f"{call} {'--header' if header else '--no-header'}"
            described = len(sources.files)
            sources = sources.answered([_accepted(guess, call, yes=yes) for guess in preview["guesses"]])
            for line in sources.files[described:]:
                typer.echo(line)
            preview = data_import.preview(sources, limits)
        if sources.examples:
            _show_examples(preview)
        if preview["texts"]["tried"]:
            _show_texts(preview["texts"])
        if sources.examples and preview["groups"] < FEW:
            raise ValueError(f"{place}: {_shortage(preview, call)}")
        if not sources.examples and not preview["texts"]["kept"]:
            raise ValueError(f"{place}: no text can be used, and nothing was changed. The lines above say why.")
        if sources.corpus and preview["texts"]["parts"] < FEW:
            if not sources.examples:
                raise ValueError(f"{place}: nothing was changed: {_few_texts(preview['texts'])}")
            sources = replace(sources, corpus=())
            typer.echo(f"── texts are left out: {_few_texts(preview['texts'])}")
        yield Intake(path, sources, preview)


def _shortage(preview: Mapping[str, Any], call: str) -> str:
    """Return a message about data with too few usable records, and what would fix it."""
    if not preview["kept"] and "unknown shape" in preview["refused"]:
        return f"no record has columns that are known. Nothing was changed; name them with\n  {call} {COLUMNS}"
    if not preview["kept"] and not preview["refused"]:
        return "there is no record in it, and nothing was changed."
    if not preview["kept"]:
        return "no record can be used, and nothing was changed. The lines above say why; correct the file, or name another one."
    return (
        f"{preview['kept']} usable records in {preview['groups']} groups (files, threads, rows) are too few to train on and to measure "
        f"by, and nothing was changed. Add records: {FEW} groups are the least, for train, valid and test."
    )


def _few_texts(preview: Mapping[str, Any]) -> str:
    return (
        f"too few texts to train on and to measure by: {preview['kept']}, with {preview['chars']:,} characters. {FEW} are the least, for "
        "train, test and gate. Add texts, or a longer one, which is cut into parts (`piece_chars` of `ingest.corpora` in params.yaml)"
    )


def _accepted(guess: dict[str, Any] | None, call: str, *, yes: bool) -> dict[str, Any] | None:
    """Return the guess if the user takes it. Raises ValueError with the command to give if there is no terminal to ask on."""
    if guess is None:
        return None
    proposal = _proposed(guess)
    question = f"The columns have no usual names. Take {proposal}? ({guess['reason']})"
    if yes:
        typer.echo(f"{question} yes")
        return guess
    by_hand = f"name the columns with\n  {call} {COLUMNS}"
    if not sys.stdin.isatty():
        raise ValueError(f"{question}\nTake it with\n  {call} --yes\nor {by_hand}")
    if not _terminal.confirm(question, default=True):
        raise ValueError(f"Nothing was changed; {by_hand}")
    return guess


def _proposed(guess: Mapping[str, Any]) -> str:
    """Return how a guess would use the columns, in words or as options."""
    if guess["text"]:
        return f"{guess['text']!r} as text of the corpus"
    if thread := guess["thread"]:
        return f"the rows of each {thread['by']!r} as a conversation"
    return _options(guess["columns"])


def _options(columns: dict[str, str]) -> str:
    return " ".join(
        f"a template for --{name}" if PROGRAM in value else f"--{name} {value!r}" for name, value in columns.items()
    )


def _show_texts(preview: dict[str, Any]) -> None:
    for number, row in enumerate(preview["rows"], 1):
        typer.echo(f"── text {number}: {row['source']}\n{_short(row['text'])}")
    _show_refusals(preview)
    _show_sensitive(preview, "secrets and personal data in texts")
    untried = preview["texts"] - preview["tried"]
    others = f", and {untried:,} others were not tried" if untried else ""
    typer.echo(
        f"── of {preview['tried']:,} texts, {preview['kept']:,} can be used, with {preview['chars']:,} characters{_refused(preview)}{others}"
    )


def _show_refusals(preview: dict[str, Any]) -> None:
    for refusal in preview["refusals"]:
        typer.echo(f"refused: {refusal['where']}: {refusal['reason']}: {_short(refusal['detail'])}")


def _show_sensitive(preview: dict[str, Any], what: str) -> None:
    if preview["sensitive"]:
        counts = ", ".join(f"{count} {rule}" for rule, count in preview["sensitive"].items())
        typer.echo(f"── {what}: {counts}. `secrets` and `personal` of `ingest` in params.yaml redact or refuse them")


def _refused(preview: dict[str, Any]) -> str:
    """Return the numbers of refused records by reason, to be put after the number of those that can be used."""
    refused = ", ".join(f"{count} {reason}" for reason, count in preview["refused"].items())
    return f"; refused: {refused}" if refused else ""


def _show_examples(preview: dict[str, Any]) -> None:
    for number, row in enumerate(preview["rows"], 1):
        typer.echo("\n".join([f"── {number}: {row['source']}", _short(row["prompt"]), *_answers(row)]))
    _show_refusals(preview)
    if len(preview["files"]) > 1:
        for file, counts in preview["files"].items():
            typer.echo(f"{file}: {counts.get('kept', 0)} can be used, {counts.get('refused', 0)} refused")
    total = preview["kept"] + sum(preview["refused"].values())
    if (named := preview["named"])["fitting"] < named["rows"]:
        typer.echo(
            f"── {named['fitting']} of {named['rows']} rows have the columns that are named; the others are read by the usual names"
        )
    for proposal in filter(None, preview["checks"]):
        check = json.dumps(proposal["check"], ensure_ascii=False) if proposal["check"] else "none"
        typer.echo(f"── check of the answers: {check}: {proposal['reason']}")
    for column in filter(None, preview["splits"]):
        typer.echo(f"── splits: {column!r} names them, and rows that it holds out stay so")
    for column in dict.fromkeys(filter(None, preview["groups_by"])):
        typer.echo(f"── groups: several rows are about one {column!r}, and those stay in one split (`group: {column}`)")
    if preview["unused"]:
        typer.echo(f"── not used: {listed(preview['unused'])}")
    if "group" in preview["unused"]:
        typer.echo(
            "── 'group' keeps nothing together yet: `group: group` of the source in params.yaml keeps rows of one value in one split"
        )
    for name in preview["reasoning"]:
        typer.echo(
            f"── {name!r} may be the reasoning of answers: `reasoning: {name}` of the source in params.yaml trains it too"
        )
    _show_sensitive(preview, "secrets and personal data")
    if "too long" in preview["refused"]:
        typer.echo(
            "── too long: `max_prompt_chars` and `max_response_chars` of `ingest` in params.yaml say how long the sides may be"
        )
    typer.echo(f"── of {total} records read, {preview['kept']} can be used{_refused(preview)}")


def listed(names: Sequence[str]) -> str:
    """Return names in one line: if there are many, the first ones and the number of the others."""
    distinct = list(dict.fromkeys(names))
    others = [f"and {len(distinct) - NAMES} others"] if len(distinct) > NAMES else []
    return ", ".join([*map(_short, distinct[:NAMES]), *others])


def _answers(row: dict[str, Any]) -> list[str]:
    """Return the response of a row: for a preference pair both sides, for a judged answer its label."""
    if row["rejected"] is not None:
        return [f"→ chosen: {_short(row['response'])}", f"→ rejected: {_short(row['rejected'])}"]
    if row["desirable"] is not None:
        return [f"→ {'desirable' if row['desirable'] else 'undesirable'}: {_short(row['response'])}"]
    return [f"→ {_short(row['response'])}"]


def _short(text: str) -> str:
    from tasks.core.text.sensitive import search
    from tasks.core.text.visible import visible

    return visible(search.beginning(text, SHOWN), SHOWN)
