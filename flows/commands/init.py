"""`ratchet init`."""

import shlex
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from flows.commands import _intake


def init(
    place: Annotated[
        str,
        typer.Argument(
            metavar="PATH",
            help="A table (JSON lines, JSON, CSV, Excel, Parquet, Arrow; compressed or in an archive), a text, a folder of tables, "
            "texts or code, or a database; or the address of a file (https://, s3://) or of a database (postgresql://).",
        ),
    ],
    prompt: _intake.Prompt = None,
    response: _intake.Response = None,
    messages: _intake.Messages = None,
    rejected: _intake.Rejected = None,
    header: _intake.Header = None,
    query: _intake.Query = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Take a guess of the columns without a question.")] = False,
) -> None:
    """Take your own data into this workspace.

    Shows the first records and refusals, how many are refused for which reason, and how answers will be checked. Copies the data to data/raw,
    and names them in params.yaml. Other settings stay unchanged, except that profile workstation replaces a profile of generated tasks.
    `ratchet new` writes all settings.

    Example: ratchet init ~/chats.jsonl && ratchet run
    """
    from flows.execution import workspace_lease
    from flows.project import data_import, profiles
    from tasks import configuration

    before: Any = configuration.load()
    workspace_lease.check_free()
    limits = (before.ingest.max_prompt_chars, before.ingest.max_response_chars, before.ingest.corpora.piece_chars)
    columns = {"prompt": prompt, "response": response, "messages": messages, "rejected": rejected}
    call = f"ratchet init {shlex.quote(place)}"
    with (
        _intake.examined(place, columns, query, call, yes=yes, header=header, limits=limits) as intake,
        workspace_lease.writing(),
    ):
        sources, target = intake.take()
        start = profiles.to_begin_with(configuration.PARAMS) if sources.examples else configuration.PARAMS
        places = data_import.own_places(configuration.PARAMS)
        changed = data_import.write_sources(sources, configuration.PARAMS, start)
        named = data_import.own_places(configuration.PARAMS)
    where = f"The data are in {target}" if target else "The data stay in the database"
    typer.echo(f"{where}, and params.yaml names them ({', '.join(changed)}).")
    if start != configuration.PARAMS:
        typer.echo(
            f"The other settings are now those of profile {profiles.OWN_DATA}: the turns of the one before generate tasks of its own."
        )
    if not sources.examples:
        typer.echo("These are texts alone: the examples stay those that were named before, the corpus is yours.")
    _tell_what_is_gone([each for each in places if each not in named])
    _tell_what_does_not_fit(configuration.load())
    typer.echo("Next: ratchet run")


def _tell_what_is_gone(places: Sequence[str]) -> None:
    """Print the user's own data that params.yaml no longer names."""
    if places:
        typer.echo(
            f"They replace {_intake.listed(places)}, which params.yaml no longer names. To train on all data, name each in params.yaml, "
            "or import a folder that holds all."
        )


def _tell_what_does_not_fit(config: Any) -> None:
    """Print a warning if a run would fail because no texts are named, or would train on none of those that are named."""
    corpora, max_tokens = config.ingest.corpora, config.pretrain.max_tokens
    if corpora.domain and not max_tokens:
        typer.echo(
            "No model trains on the texts: `max_tokens` of `pretrain` in params.yaml is 0, so they are only measured. Write there on how many "
            "tokens to train; a token has about four characters."
        )
    if max_tokens and not corpora.domain and not corpora.domains:
        typer.echo(
            f"`pretrain` trains on {max_tokens:,} tokens of the domain's texts, and no text is named: a run would end there. Name texts in "
            "`ingest.corpora.domain` of params.yaml, or write `max_tokens: 0` in `pretrain`, which leaves it out."
        )
