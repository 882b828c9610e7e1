"""Preview the examples that `ingest` makes of sources. Each table gets the check that its answers suggest."""

import difflib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import islice
from typing import Any

from tasks.core.records import Example, Refusal
from tasks.core.split_names import COLUMNS, named_split
from tasks.core.text.contamination import prompt_of
from tasks.core.text.visible import excerpt
from tasks.io import sandbox
from tasks.io.sources.record import Row
from tasks.stages.ingest.columns_config import Columns
from tasks.stages.ingest.config import Datasets, ExampleSource, File, Folder, Gym, IngestConfig, Package, Query
from tasks.stages.ingest.mining.suites import as_suites
from tasks.stages.ingest.mining.verification import verify_candidates
from tasks.stages.ingest.preview.check_proposal import Proposal, propose
from tasks.stages.ingest.quarantine import TOO_LONG, Sourced, too_long
from tasks.stages.ingest.reading import cleaning, threads
from tasks.stages.ingest.reading.examples import (
    LONG,
    Asked,
    example_from_row,
    mine_functions,
    python_modules,
    read_puzzles,
    read_records,
    read_rows,
)
from tasks.stages.ingest.reading.guesses import table
from tasks.stages.ingest.reading.guesses.annotated import guess_annotated
from tasks.stages.ingest.reading.guesses.choices import guess_choices
from tasks.stages.ingest.reading.guesses.logged import guess_logged
from tasks.stages.ingest.reading.guesses.names import ABOUT, TEXTS, Guess, first_named, names_of, num_words
from tasks.stages.ingest.reading.rows import reasoning
from tasks.stages.ingest.reading.rows.columns import missing
from tasks.stages.ingest.reading.rows.conversations import EXTRAS
from tasks.stages.ingest.reading.rows.unused import columns_with_content, unused
from tasks.stages.ingest.reading.sources import label, sample
from tasks.stages.ingest.screening.sensitive import example_parts, rule_names

SHOWN = 5
FUNCTIONS = 60
"""Number of functions of a package that are tried; each needs a run in the sandbox."""
SEARCHED = 1_000
"""Number of examples that are searched together for secrets and personal data."""
GUESSED = 200
"""Number of rows from which the columns are guessed."""
FEWEST_TEXTS = 10
"""Fewest different texts for grouping by text. With fewer, one text has too many of the rows for one split."""
SHARED = 0.05
"""Smallest share of rows with the text of an earlier row that is taken to be no coincidence."""
LISTED = 12
"""Most names of columns that a message lists."""
SEED = 0
LIMITS = tuple(int(IngestConfig.model_fields[f"max_{side}_chars"].default) for side in ("prompt", "response"))
"""Most characters of a prompt and of a response, by default."""


def preview(sources: tuple[ExampleSource, ...], limits: Sequence[int] = LIMITS) -> dict[str, Any]:
    """Return the preview of the examples for `ratchet init`.

    It holds the first kept and the first refused records, the counts of both by file, the kept ones by kind, and the unused columns. For each
    source it holds a guess of the columns, the proposed check, the column of its splits, and the column of a text that several rows share.
    """
    named = _count_named(sources)
    kept: list[Example] = []
    refused: list[Refusal] = []
    reasons: Counter[str] = Counter()
    groups: set[str] = set()
    files: defaultdict[str, Counter[str]] = defaultdict(Counter)
    kinds = Counter(pairs=0, judged=0, plain=0)
    sensitive_texts: Counter[str] = Counter()
    unsearched: list[Example] = []
    proposals = [_proposal(source) for source in sources]
    for source, proposal in zip(sources, proposals, strict=True):
        for file, read in _records(_with_check(source, proposal)):
            record = read if isinstance(read, Refusal) else _too_long(read, limits) or read
            if isinstance(record, Refusal):
                reasons[record.reason] += 1
                files[file]["refused"] += 1
                refused += [record] if len(refused) < SHOWN else []
            else:
                groups.add(record.group)
                files[file]["kept"] += 1
                kinds[_kind(record)] += 1
                kept += [record] if len(kept) < SHOWN else []
                unsearched.append(record)
                if len(unsearched) == SEARCHED:
                    sensitive_texts.update(_rules_in(unsearched))
                    unsearched.clear()
    sensitive_texts.update(_rules_in(unsearched))
    checked = [_with_check(source, proposal) for source, proposal in zip(sources, proposals, strict=True)]
    splits = [_split_column(source) for source in sources]
    names = [name for source in checked for name in _unused(source) if name not in splits]
    return {
        "splits": splits,
        "groups_by": [_shared_text(source) for source in checked],
        "checks": [proposal and {"check": proposal.check, "reason": proposal.reason} for proposal in proposals],
        "kept": sum(counts["kept"] for counts in files.values()),
        "refused": dict(reasons.most_common()),
        "kinds": dict(kinds),
        "named": named,
        "groups": len(groups),
        "sensitive": dict(sensitive_texts.most_common()),
        "rows": [
            {
                "prompt": prompt_of(row),
                "response": row.response,
                "rejected": row.rejected,
                "desirable": row.desirable,
                "source": row.source,
            }
            for row in kept
        ],
        "refusals": [shown(refusal) for refusal in refused],
        "files": {file: dict(counts) for file, counts in files.items()},
        "unused": names,
        "reasoning": [name for name in reasoning.FIELDS if not {name, f"turn.{name}"}.isdisjoint(names)],
        "guesses": [
            None if proposal and proposal.shapes else _guess(source, reasons["unknown shape"] > 0)
            for source, proposal in zip(sources, proposals, strict=True)
        ],
    }


def shown(refusal: Refusal) -> dict[str, str]:
    """Return the place of a refused record, the reason, and what was found."""
    where = ", ".join(filter(None, (refusal.source, refusal.where)))
    return {"where": where, "reason": refusal.reason, "detail": excerpt(refusal.detail)}


def _too_long(example: Example, limits: Sequence[int]) -> Refusal | None:
    """Return the refusal of an example whose prompt or response is too long; None for any other. The stage refuses it after reading all."""
    lengths = (len(prompt_of(example)), max(len(example.response), len(example.rejected or "")))
    detail = too_long(lengths, limits)
    return Refusal(example.source, "", TOO_LONG, detail, "") if detail else None


def _kind(example: Example) -> str:
    """Return `pairs` for an example with a better and a worse answer, `judged` for one with a judged answer, else `plain`."""
    if example.rejected is not None:
        return "pairs"
    return "plain" if example.desirable is None else "judged"


def _rules_in(examples: Sequence[Example]) -> Iterator[str]:
    """Yield the rule of each secret and each piece of personal data in these examples."""
    return rule_names([part.text for example in examples for part in example_parts(example)])


def _guess(source: ExampleSource, has_unknown: bool) -> dict[str, Any] | None:
    """Return the guessed columns of a source, if rows have an unknown shape, are annotated, or are multiple choice; None without a guess.

    A guess applies to all rows of the source. It is dropped if it would change more usable rows than it makes usable.
    """
    if not isinstance(source, File | Query | Datasets) or source.columns is not None:
        return None
    first = list(islice(_rows(source), GUESSED))
    is_usable = any(_is_usual(row, source) for row in first)
    values = [row.values for row in first]
    answer = guess_annotated(values) or guess_choices(values, is_usable) or _logged(first, source)
    if answer is None and has_unknown:
        unknown = (row.values for row in _rows(source) if not _is_usual(row, source))
        answer = table.guess(list(islice(unknown, GUESSED)))
        if answer is not None and not _gains(answer, source):
            return None
    if answer is None or (answer.text and not isinstance(source, File)):  # corpora read tables of files
        return None
    return asdict(answer)


def _logged(rows: Sequence[Row], source: File | Query | Datasets) -> Guess | None:
    """Return the guess for a log of requests. Its rows are unusable without a guess, unless they hold turns as texts."""
    is_read = any(isinstance(example_from_row(row, label(source), source, ""), Example) for row in rows)
    return guess_logged([row.values for row in rows], is_read)


def _gains(answer: Guess, source: File | Query | Datasets) -> bool:
    """Return True if the guess helps: columns if they make more rows usable than they change, a thread or a text if no usable row is lost."""
    settings = {"columns": Columns(**answer.columns)} if answer.columns else {}
    guessed = source.model_copy(update=settings)
    own = {answer.thread[name] for name in ("by", "role", "content")} if answer.thread else set[str]()
    num_usable = num_gained = num_changed = 0
    for row in _rows(source):
        before = example_from_row(row, label(source), source, "")
        after = example_from_row(row, label(source), guessed, "")
        if isinstance(before, Refusal):
            num_gained += isinstance(after, Example)
            continue
        num_usable += 1
        is_same = isinstance(after, Example) and after.id == before.id
        num_changed += not is_same or (bool(own) and own <= row.values.keys())
    if answer.columns:
        return not num_changed or num_gained > num_changed
    return not (num_changed if answer.thread else num_usable)


def _first_rows(source: File | Query | Datasets) -> list[Mapping[str, Any]]:
    return [row.values for row in islice(_rows(source), GUESSED)]


def _split_column(source: ExampleSource) -> str | None:
    """Return the column that names the splits of a source's rows; None if there is none, if it names one split, or if settings name splits."""
    if not isinstance(source, File | Query | Datasets) or source.held_out or source.split_by:
        return None
    rows = _first_rows(source)
    for name in COLUMNS:
        values = {named_split(row[name]) for row in rows if row.get(name) not in (None, "")}
        if "train" in values and len(values) > 1 and None not in values:
            return name
    return None


def _shared_text(source: ExampleSource) -> str | None:
    """Return the column of a text about which several rows ask, such as a paragraph; None if there is none, or if settings name a group.

    Every row must have the text, because a row without a group is refused. The exception is a column that may be empty by its shape, such as
    `context`.
    """
    if not isinstance(source, File | Query | Datasets) or source.group or source.thread:
        return None
    first = list(islice(_rows(source), GUESSED))
    values = [row.values for row in first]
    name = first_named([name for name in names_of(values) if num_words(values, name) >= LONG], (*ABOUT, *TEXTS))
    if name is None:
        return None
    by_text = source.model_copy(update={"group": name})
    asking = [row for row in first if cleaning.group_name(row.values.get(name)) is not None]
    if 2 * sum(isinstance(example_from_row(row, "", by_text, ""), Asked) for row in asking) <= len(asking):
        return None
    texts: Counter[int] = Counter()
    for row in _rows(source):
        text = row.values.get(name)
        if isinstance(text, str) and text.strip():
            texts[hash(text)] += 1
        elif name not in EXTRAS or cleaning.group_name(text) is not None:
            return None
    num_shared = texts.total() - len(texts)
    return name if len(texts) >= FEWEST_TEXTS and num_shared >= SHARED * texts.total() else None


def _unused(source: ExampleSource) -> list[str]:
    """Return the columns that no example of a source uses; for a table of messages, also the columns that no conversation has."""
    if not isinstance(source, File | Query | Datasets):
        return []
    rows = _first_rows(source)
    if source.thread is None:
        return unused(rows, source)
    own = {
        *source.thread.model_dump(include={"by", "role", "content", "id", "parent", "order"}).values(),
        *threads.FIELDS,
    }
    kept = own.union(columns_with_content(rows))
    messages = _first_rows(source.model_copy(update={"thread": None}))
    return [name for name in columns_with_content(messages) if name not in kept] + unused(rows, source)


def _count_named(sources: Sequence[ExampleSource]) -> dict[str, int]:
    """Return, for tables whose columns are named, the number of rows and of rows with these columns. Raises ValueError if no row has them."""
    lacking: Counter[str] = Counter()
    known: set[str] = set()
    rows = fitting = 0
    for source in sources:
        if not isinstance(source, File | Query | Datasets) or source.columns is None:
            continue
        settings = source.columns.model_dump(exclude_none=True)
        for row in _rows(source):
            rows += 1
            lacks = missing(row.values, settings)
            fitting += not lacks
            lacking.update(lacks)
            known.update(row.values)
    if rows and not fitting:
        name = max(lacking, key=lacking.__getitem__)
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(sorted(known)[:LISTED])}."
        raise ValueError(f"no row has all columns that are named: {lacking[name]:,} of {rows:,} lack {name!r}. {hint}")
    return {"rows": rows, "fitting": fitting}


def _rows(source: File | Query | Datasets) -> Iterator[Row]:
    return (record for _, record in read_records(source)[0] if isinstance(record, Row))


def _is_usual(record: Row, source: File | Query | Datasets) -> bool:
    example = example_from_row(record, label(source), source, "")
    return not (isinstance(example, Refusal) and example.reason == "unknown shape")


def _records(source: ExampleSource) -> Iterator[Sourced[Example | Refusal]]:
    if not isinstance(source, Package | Folder | Gym):
        yield from read_rows(source, SEED)
        return
    name = label(source)
    if isinstance(source, Gym):
        yield from (Sourced(name, record) for record in read_puzzles(source, SEED))
        return
    candidates = sample(mine_functions(source, python_modules(source)), FUNCTIONS, SEED)
    run = partial(sandbox.run, trusted=True)
    verified = verify_candidates(candidates, run)
    for record in as_suites(verified, run) if source.answer == "tests" else verified:
        yield Sourced(name, record)


def _proposal(source: ExampleSource) -> Proposal | None:
    """Return the check to propose; None for a source that is not a table, or that names a check."""
    return propose(source) if isinstance(source, File | Query | Datasets) and source.check is None else None


def _with_check(source: ExampleSource, proposal: Proposal | None) -> ExampleSource:
    if proposal is None or proposal.check is None:
        return source
    return type(source).model_validate(source.model_dump(exclude_defaults=True) | {"check": proposal.check})
