"""Examples and documents as sequences that train: tokenised once into a store on disk, or the first few in memory."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from tasks.core.records import Document, Example
from tasks.core.sequences import Column, Encoded
from tasks.core.stage import Run
from tasks.engine import encode
from tasks.engine.sequences import Changed, Facts, Names, Sequences
from tasks.engine.training.compose import Part
from tasks.io import provenance, tables, token_store
from tasks.io.token_store import Contents, Tokenized, TokenStore
from tasks.io.weights import checkpoints

STORES = "tokens"
"""The folder of all stores in a run's cache."""
OTHERS = (".safetensors", ".index.json", "ratchet.json", "training.json")
"""Suffixes of the names of files in a model's folder that do not affect its tokens."""
MODULES = ("tasks.engine.encode", "tasks.io.token_store")
LIBRARIES = ("tokenizers", "transformers")
PERCENTILES = (50, 90, 99)


class Stored(Sequences):
    """The sequences of a store."""

    def __init__(self, store: TokenStore) -> None:
        self._store = store

    @cached_property
    def facts(self) -> Facts:
        records, contents = self._store.records, self._store.contents
        return Facts(
            records["tokens"],
            self._store.longest,
            records["trained"],
            records["auxiliary"] > 0,
            Names(tuple(contents.tasks), records["task"]),
            Names(tuple(contents.domains), records["domain"]),
        )

    def read(self, place: int) -> Encoded:
        return self._store.read(place)


def stored_examples(
    rows: Path, tokenizer: Path, encoder: encode.ExampleEncoder, run: Run, label: str, table: Path | None = None
) -> tuple[Sequences, dict[str, Any]]:
    """Return the sequences of a table of examples, and their figures by domain; report how many were left out.

    `tokenizer` is the folder of the encoder's tokenizer, `table` the objective's table. Raises ValueError if no example has what the
    objective needs.
    """
    store = _of_table(rows, Example, tokenizer, encoder, run, table)
    _report(len(store), store.contents, encoder.objective, run, label)
    sequences = Stored(store)
    return linked(sequences, encoder), figures(sequences.facts, store.contents.too_long)


def stored_documents(
    rows: Path, tokenizer: Path, encoder: encode.DocumentEncoder, run: Run
) -> tuple[Sequences, dict[str, Any]]:
    """Return the pieces of a table of documents, and their figures by corpus."""
    store = _of_table(rows, Document, tokenizer, encoder, run)
    sequences = Stored(store)
    return sequences, figures(sequences.facts, store.contents.too_long)


def open_store(
    rows_from: Callable[[Contents], Iterable[Tokenized]],
    tokenizer: Path,
    settings: Mapping[str, Any],
    run: Run,
    *,
    modules: Sequence[str] = (),
    columns: Sequence[Column] = (),
) -> TokenStore:
    """Return the store of the sequences that `rows_from` yields; given a store's contents, it continues where they end.

    The store's folder is named by a hash of everything that determines its sequences: `settings`, the tokenizer in the folder `tokenizer`,
    and the code of `modules`, which tokenise with `tasks.engine.encode`.
    """
    facts = {
        "code": [provenance.code_digest(provenance.closure(module)) for module in (*MODULES, *modules)],
        "libraries": {name: metadata.version(name) for name in LIBRARIES},
        "tokenizer": _tokenizer_digest(tokenizer),
        **settings,
    }
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
    return token_store.open_or_make(run.cache / STORES / key, columns, rows_from, run.say)


def first_examples(rows: Path, encoder: encode.ExampleEncoder, tokens: int) -> list[Encoded]:
    """Return the first sequences of a table of examples that together have about `tokens` tokens. No further rows are read."""
    sequences = (sequence for row in tables.stream(rows, Example) for sequence in encoder(row).sequences)
    return encode.take(sequences, tokens)


def first_documents(
    rows: Path, encoder: encode.DocumentEncoder, corpora: Sequence[str], tokens: int
) -> dict[str, list[Encoded]]:
    """Return the first pieces of each corpus that together have about `tokens` tokens. No further rows are read."""
    taken: dict[str, list[Encoded]] = {corpus: [] for corpus in corpora}
    remaining = dict.fromkeys(corpora, tokens)
    for row in tables.stream(rows, Document):
        if remaining[row.corpus] > 0:
            pieces = encode.take(encoder(row).sequences, remaining[row.corpus])
            taken[row.corpus] += pieces
            remaining[row.corpus] -= sum(map(len, pieces))
        elif max(remaining.values()) <= 0:
            break
    return taken


def linked(sequences: Sequences, encoder: encode.ExampleEncoder) -> Sequences:
    """Return the sequences, each linked by the objective to a sequence of another example, if there is another example."""
    link = encoder.objective and encoder.objective.method.link
    if not encoder.objective or not link or len(sequences) < 2:
        return sequences
    longest = min(encoder.pack_tokens, encoder.context or encoder.pack_tokens)
    change = partial(_linked, sequences, link, longest, encoder.objective.config)
    return Changed(sequences, change, adds_auxiliary=True)


def _linked(
    sequences: Sequences, link: Callable[..., Encoded], longest: int, config: Any, place: int, sequence: Encoded
) -> Encoded:
    """Return a sequence with its link.

    The first sequence of an example is linked to the sequence before it, the second to the one before that, and so on. The list is circular:
    before the first sequence comes the last. Sequences of the example itself are skipped.
    """
    start = place
    while start and sequences[start - 1].id == sequence.id:
        start -= 1
    number = len(sequences)
    before = (sequences[(2 * start - place - 1 - step) % number] for step in range(number))
    other = next((other for other in before if other.id != sequence.id), None)
    return link(sequence, other, longest, config) if other else sequence


def figures(facts: Facts, too_long: Mapping[str, int]) -> dict[str, Any]:
    """Return by domain: the number of sequences, their tokens, the mean and percentiles of their lengths, and the longest length.

    The number of sequences that no pack can hold comes with them; those are in none of the other figures.
    """
    domains = facts.domains
    order = np.argsort(domains.codes, kind="stable")
    ends = np.cumsum(np.bincount(domains.codes, minlength=len(domains.names)))
    by_domain = dict(zip(domains.names, np.split(facts.tokens[order], ends[:-1]), strict=True)) if domains.names else {}
    names = sorted({*(name for name, tokens in by_domain.items() if len(tokens)), *too_long})
    return {name: _figures(by_domain.get(name, np.zeros(0)), too_long.get(name, 0)) for name in names}


def _figures(tokens: Any, too_long: int) -> dict[str, Any]:
    lengths = {f"p{percent}": 0 for percent in PERCENTILES} | {"longest": 0, "mean": 0.0}
    if len(tokens):
        cuts = np.percentile(tokens, PERCENTILES, method="inverted_cdf")
        lengths = {f"p{percent}": int(cut) for percent, cut in zip(PERCENTILES, cuts, strict=True)}
        lengths |= {"longest": int(tokens.max()), "mean": round(float(tokens.mean()), 2)}
    return {"sequences": len(tokens), "tokens": int(tokens.sum()), **lengths, "too_long": too_long}


def _of_table(
    rows: Path,
    record: type[Any],
    tokenizer: Path,
    encoder: encode.ExampleEncoder | encode.DocumentEncoder,
    run: Run,
    table: Path | None = None,
) -> TokenStore:
    """Return the store of a table's sequences."""

    def rows_from(contents: Contents) -> Iterator[Tokenized]:
        pending, total = tables.stream(rows, record, contents.rows), tables.count(rows, record) - contents.rows
        for row in run.track(pending, total=total, unit=f"{record.__name__.lower()} in tokens"):
            yield encoder(row)

    digests = {"rows": provenance.digest(rows), "table": table and provenance.digest(table)}
    return open_store(
        rows_from, tokenizer, digests | encoder.settings, run, modules=encoder.modules, columns=encoder.columns
    )


def _tokenizer_digest(folder: Path) -> str:
    """Return a digest of the files in a model's folder that may affect its tokens."""
    small = [path for path in folder.iterdir() if path.is_file() and not path.name.endswith(OTHERS)]
    files = [*small, *folder.glob(checkpoints.NAMED_TEMPLATES)]
    digests = {path.relative_to(folder).as_posix(): provenance.digest(path) for path in files}
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()


def _report(num_sequences: int, contents: Contents, objective: Part | None, run: Run, label: str) -> None:
    """Report how many sequences are left out, and how much the objective does not use."""
    left_out = contents.too_long.total() + contents.unusable.total()
    total = num_sequences + left_out
    if left_out:
        run.say(
            f"{label}: {left_out} of {total} examples are longer than a pack, hold a control token, or train nothing, "
            "and were left out"
        )
    if not objective:
        return
    if contents.without:
        run.say(
            f"{label}: {contents.without} of {contents.rows} examples have nothing that objective {objective.name!r} trains on"
        )
    if contents.unused:
        run.say(f"{label}: {contents.unused} {objective.spec.table.unused}")
    if objective.spec.needs and not total:
        raise ValueError(f"{label}: objective {objective.name!r} {objective.spec.needs}.")
