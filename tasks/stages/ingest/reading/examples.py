"""Read examples: rows of tables and data sets, generated puzzles."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any, TypeVar

from tasks.core.answers import base, registry
from tasks.core.records import Example, Message, Refusal, Split, Unfit, identify
from tasks.core.split_names import NAMES, named_split
from tasks.core.text.contamination import prompt_of
from tasks.core.text.reasoning import answer_of
from tasks.core.text.sensitive import search
from tasks.core.text.visible import excerpt
from tasks.io.sources import databases, gym, hub, package
from tasks.io.sources.package import Module
from tasks.io.sources.record import Broken, Record, Row
from tasks.io.system import packages
from tasks.stages.ingest.config import Datasets, File, Folder, Gym, Package, Query, Rows
from tasks.stages.ingest.mining.candidates import Candidate, mine_candidates
from tasks.stages.ingest.quarantine import Sourced
from tasks.stages.ingest.reading import cleaning
from tasks.stages.ingest.reading.rows import tool_calls
from tasks.stages.ingest.reading.rows.columns import usual
from tasks.stages.ingest.reading.rows.conversations import EXTRAS, context_answers, conversation, is_decoded
from tasks.stages.ingest.reading.rows.loss_weights import REASON, loss_weights
from tasks.stages.ingest.reading.rows.preferences import judgement
from tasks.stages.ingest.reading.rows.reasoning import with_reasoning
from tasks.stages.ingest.reading.rows.trajectories import views
from tasks.stages.ingest.reading.sources import is_pattern, label, sample, table_rows, without_wildcards
from tasks.stages.ingest.reading.threads import joined

T = TypeVar("T")
SHOWN = 3
"""Number of rows that the message shows if a check fits no row."""
LONG = 8
"""Fewest words of a group's text that make all prompts with it similar to each other."""
UNCHECKED = "check does not fit"
"""The beginning of the reason of refusal for rows that do not fit the check of their source."""


@dataclass(frozen=True)
class Asked(Example):
    """An example whose prompt holds a question and the text that names its group, such as a paragraph.

    Other examples of the group are similar, but are not duplicates of it.
    """


def python_modules(source: Package | Folder) -> list[Module]:
    """Return the Python modules of a package or below a folder."""
    if isinstance(source, Package):
        return package.modules(source.name)
    return [_of_folder(source, module) for module in package.folder(source.path)]


def mine_functions(source: Package | Folder, modules: Sequence[Module]) -> Iterator[Candidate | Example | Refusal]:
    """Yield the functions of a source that its settings ask for."""
    if isinstance(source, Package) or source.functions == "doctests":
        return mine_candidates(modules)
    tests = [_of_folder(source, module) for module in package.modules_of_tests(source.path)]
    return mine_candidates(modules, tests, untested=source.functions == "documented")


def _of_folder(source: Folder, module: Module) -> Module:
    """Return a module with the licence and the label of its folder, since two folders may have the same name."""
    return replace(module, license=source.license, place=label(source))


def read_records(source: File | Query | Datasets) -> tuple[Iterable[tuple[str, Record]], str]:
    """Return the records of a table or data set, each with the label of its file, and the domain of its examples.

    If a row is one message, the record is a whole conversation.
    """
    records, domain = _records(source)
    return (records if source.thread is None else joined(records, source.thread)), domain


def _records(source: File | Query | Datasets) -> tuple[Iterable[tuple[str, Record]], str]:
    name = label(source)
    if isinstance(source, File):
        return table_rows(source), domain_of(source)
    if isinstance(source, Query):
        records = ((name, record) for record in databases.rows(source.database, source.query))
        return records, source.domain or PurePath(source.database).stem
    if source.id is not None:
        assert source.revision is not None
        rows = ((name, row) for row in hub.from_hub(source.id, source.revision, source.config, source.split))
        return rows, source.domain or source.id
    assert source.path is not None
    return ((name, row) for row in hub.from_disk(source.path, source.split)), source.domain or source.path.name


def domain_of(source: File) -> str:
    """Return the domain of the examples of a file, a folder or a pattern."""
    is_many = is_pattern(source.path)
    return source.domain or (without_wildcards(source.path).name if is_many else source.path.stem)


@dataclass
class Checked:
    """Counts of the rows of a source that fit its check, and of those that do not."""

    num_checked: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    """Reason → number of rows that do not fit."""
    first: list[str] = field(default_factory=list)
    """Place and detail of the first rows that do not fit."""

    def count(self, read: Example | Refusal) -> None:
        """Count a row."""
        if isinstance(read, Refusal) and read.reason.startswith(UNCHECKED):
            reason = read.reason.removeprefix(f"{UNCHECKED}: ")
            self.reasons[reason] = self.reasons.get(reason, 0) + 1
            self.first += [f"{read.where}: {read.detail}"] if len(self.first) < SHOWN else []
        else:
            self.num_checked += isinstance(read, Example)

    def add(self, other: "Checked") -> None:
        """Add the counts of later rows."""
        self.num_checked += other.num_checked
        self.reasons = dict(Counter(self.reasons) + Counter(other.reasons))
        self.first = [*self.first, *other.first][:SHOWN]

    def raise_if_none_fits(self, source: Rows) -> None:
        """Raise ValueError if the check fits none of the rows."""
        if not self.reasons or self.num_checked:
            return
        assert source.check is not None
        counts = ", ".join(f"{count} {reason}" for reason, count in Counter(self.reasons).most_common())
        first = search.redacted("; ".join(self.first), search.SECRETS)
        raise ValueError(
            f"ingest: {label(source)}: check `{source.check.kind}` fits none of its {sum(self.reasons.values())} rows ({counts}). "
            f"The first: {first}. "
            "Name another check, or the column with the right answers (`reference`), in `ingest.sources` of params.yaml."
        )


def read_rows(source: File | Query | Datasets, seed: int) -> Iterator[Sourced[Example | Refusal]]:
    """Yield the rows of a table or data set as examples, each with the label of its file.

    Raises ValueError if the source has a check that fits none of its rows.
    """
    records, domain = read_records(source)
    checked = Checked()
    yield from examples_from_records(sample(records, source.max_rows, seed), source, domain, checked)
    checked.raise_if_none_fits(source)


def examples_from_records(
    records: Iterable[tuple[str, Record]], source: Rows, domain: str, checked: Checked
) -> Iterator[Sourced[Example | Refusal]]:
    """Yield records as examples or refusals, each with the label of its file, and count in `checked` the rows that fit the check."""
    for file, record in records:
        if isinstance(record, Broken):
            yield Sourced(file, Refusal(file, record.where, record.reason, record.detail, record.record))
            continue
        read = example_from_row(record, file, source, domain)
        checked.count(read)
        if source.calls == "decoupled" and isinstance(read, Example):
            yield from (Sourced(file, view) for view in _decoupled(read, record, file, source))
        else:
            yield Sourced(file, read)


def _decoupled(whole: Example, record: Row, file: str, source: Rows) -> Sequence[Example | Refusal]:
    """Return the views of a trajectory, or its refusal."""
    made = views(whole, label(source), has_group=_group_column(source) is not None)
    if isinstance(made, Unfit):
        return [Refusal(file, record.where, made.reason, made.detail, cleaning.beginning(record.values))]
    return made


def _group_column(source: Rows) -> str | None:
    """Return the column whose equal values stay in one split: the named one, else the conversation's, if branches of a tree share messages."""
    if source.group is None and source.thread is not None and source.thread.parent is not None:
        return source.thread.by
    return source.group


def example_from_row(record: Row, source: str, options: Rows, domain: str) -> Example | Refusal:
    """Return the example in a row of the file `source`, or a refusal with the reason."""

    def refusal(unfit: Unfit, shown: Mapping[str, object]) -> Refusal:
        return Refusal(source, record.where, unfit.reason, unfit.detail, cleaning.beginning(shown))

    named = usual(record.values, options.columns)
    if isinstance(named, Unfit):
        return refusal(named, record.values)
    columns = {**record.values, **named}
    values = options.check.reshape(named) if options.check else named
    if isinstance(values, Unfit):
        return refusal(_unchecked(values), record.values)
    if options.reasoning is not None:
        values = with_reasoning(values, options.reasoning)
    try:
        example = _example(values, columns, f"{source}: {record.where}", options, domain)
    except _UnusableError as error:
        return refusal(error.unfit, values)
    if options.check is None:
        return example
    answer = base.Row(prompt_of(example), answer_of(tool_calls.as_text(example.messages[-1])), columns)
    tests = registry.tests(options.check, answer)
    if isinstance(tests, Unfit):
        return refusal(_unchecked(tests), record.values)
    return replace(example, tests=tests)


class _UnusableError(Exception):
    """A row is not an example, for the reason `unfit`."""

    def __init__(self, unfit: Unfit) -> None:
        super().__init__(unfit.reason)
        self.unfit = unfit


def _usable(part: T | Unfit) -> T:
    """Return a part of an example. Raises _UnusableError if the part is a reason for refusal instead."""
    if isinstance(part, Unfit):
        raise _UnusableError(part)
    return part


def _example(values: Mapping[str, Any], columns: Mapping[str, Any], place: str, options: Rows, domain: str) -> Example:
    """Return the example in `values`, which have the usual names; `columns` also has the names of the table. Raises _UnusableError."""
    messages = _usable(conversation(values))
    tools = _usable(tool_calls.schemas(values, messages))
    judged = _usable(judgement(values, messages))
    if not all(map(is_decoded, _texts(messages, tools, judged.rejected))):
        detail = "a call, a tool or the rejected answer holds bytes that are not text"
        raise _UnusableError(Unfit("broken characters", detail))
    # Judged answers to the same prompt form one group.
    prompt = f"{label(options)}: prompt {identify(messages[:-1])}" if judged.is_given else None
    kind = Asked if _holds_group(columns, options, messages) else Example
    return kind(
        id=identify(messages, tools=tools, rejected=judged.rejected, desirable=judged.desirable),
        messages=messages,
        group=_usable(_group(columns, options)) or prompt or place,
        task=_usable(_task(columns, options)),
        domain=domain,
        split=_usable(_split(columns, options)),
        source=place,
        license=options.license,
        weights=_usable(_weights(values, messages, options)),
        tools=tools,
        rejected=judged.rejected,
        desirable=judged.desirable,
        context_answers=context_answers(values),
    )


def _group(columns: Mapping[str, Any], options: Rows) -> str | Unfit | None:
    """Return the group that a column names; None if no column names groups, or if it is the column of a text and the row has none."""
    if (column := _group_column(options)) is None:
        return None
    if (name := cleaning.group_name(columns.get(column))) is not None:
        return f"{label(options)}: {name}"
    return None if column in EXTRAS else Unfit("no group", f"the column {column!r} is empty")


def _holds_group(columns: Mapping[str, Any], options: Rows, messages: Sequence[Message]) -> bool:
    """Return True if the prompt holds the text that names its group, and more text."""
    text = columns.get(options.group) if options.group else None
    if not isinstance(text, str) or len(text.split()) < LONG:
        return False
    text, prompt = (" ".join(each.split()) for each in (text, "\n".join(m.content for m in messages[:-1])))
    return text in prompt and text != prompt


def _task(columns: Mapping[str, Any], options: Rows) -> str | Unfit:
    task = options.task if options.task_by is None else columns.get(options.task_by)
    if not isinstance(task, str) or not task.strip():
        return Unfit("no task", f"the column {options.task_by!r} has no text")
    return task.strip()


def _split(columns: Mapping[str, Any], options: Rows) -> Split | Unfit:
    given = "train" if options.split_by is None else columns.get(options.split_by)
    if split := options.held_out or named_split(given):
        return split
    detail = f"the column {options.split_by!r} holds {given!r}; known are {', '.join(NAMES)}"
    return Unfit("unknown split", excerpt(detail))


def _weights(values: Mapping[str, Any], messages: Sequence[Message], options: Rows) -> list[float] | Unfit | None:
    """Return the weight of each character of the answer; None if the source has no weights."""
    weights = loss_weights(values, options.weights) if options.weights else None
    if weights is not None and messages[-1].tool_calls:
        return Unfit(REASON, "the last message calls a tool, and weights are of its characters as a text")
    return weights


def _texts(messages: Sequence[Message], tools: str | None, rejected: str | None) -> Iterator[str]:
    """Yield every text of an example that comes from data."""
    yield from filter(None, (tools, rejected))
    for message in messages:
        yield from message.texts


def _unchecked(unfit: Unfit) -> Unfit:
    """Return the reason of refusal for a row that does not fit the check of its source."""
    return replace(unfit, reason=f"{UNCHECKED}: {unfit.reason}")


def read_puzzles(source: Gym, seed: int) -> Iterator[Example | Refusal]:
    """Yield the tasks that reasoning-gym generates, as refusals for a kind whose verifier accepts planted wrong answers."""
    license = packages.license_of("reasoning-gym")
    for task, config in source.tasks.items():
        pairs = [
            (puzzle, gym.example(puzzle, task, seed, license))
            for puzzle in gym.puzzles(task, source.size, seed, config)
        ]
        is_untrusted = gym.takes_anything([made for _, made in pairs if isinstance(made, Example)])
        for puzzle, made in pairs:
            unfit = Unfit("untrusted verifier", gym.UNTRUSTED) if is_untrusted else made
            if isinstance(unfit, Unfit):
                yield Refusal(label(source), f"{task} {puzzle.number}", unfit.reason, unfit.detail, puzzle.question)
            else:
                yield unfit
