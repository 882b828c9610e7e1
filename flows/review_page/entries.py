"""Collect the entries of the page: accepted or refused rewrites, their original examples, refused records, and evaluation items."""

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rapidfuzz.distance import Indel

from flows.project import review, reviewed_data
from tasks import configuration
from tasks.configuration import PipelineConfig
from tasks.core.records import Decision, Example, Lineage, Message, Refusal, Signals
from tasks.io import review_decisions

View = Literal["proposed", "refused", "examples", "records", "items"]
Verb = Literal["accept", "edit", "reject", "flag", "withdraw"]
OF_TURN: tuple[View, ...] = ("proposed", "refused", "examples")
OF_DATA: tuple[View, ...] = ("records", "items")
VERBS: Mapping[View, Sequence[Verb]] = {
    **dict.fromkeys(OF_TURN, ("accept", "reject", "edit")),
    "examples": ("accept", "reject", "flag", "edit"),
    "records": ("accept",),
    "items": ("reject",),
}
"""The decisions that an entry of a view can get, beside `withdraw`."""
UNFOUND = "rescued: kept in pieces, refused for good, or no longer read"
"""The outcome of a rescued record that is neither among the refused nor among the kept records."""


@dataclass(frozen=True)
class Entry:
    """A proposal together with the example that it was made from, or an example of the training data."""

    id: str
    """The id that a decision refers to."""
    before: Example
    """The example itself, or the one that a proposal was made from."""
    after: Example | None
    """The proposed example; None for an example, and for a refused proposal, of which only the response is kept."""
    response: str
    """The text that an edit replaces."""
    lineage: Lineage | None
    """None for an example."""
    signals: Signals | None
    why: Sequence[str]
    """Reasons for which the diagnosis chose the example."""
    sameness: float = 1.0
    """The share of characters, 0 to 1, that the proposed response has in common with the one before."""
    outcome: str = ""
    """The reason of a refused record, or the measures of an item."""
    marks: Sequence[str] = ()
    """Words by which a record or an item is filtered."""

    @property
    def flags(self) -> Sequence[str]:
        """Words by which it is filtered."""
        return self.signals.flags if self.signals else self.marks

    @property
    def answered(self) -> Example:
        """The example whose response an edit replaces, with its prompt and its tests."""
        return self.after or self.before

    @property
    def knows_tests(self) -> bool:
        """False for a refused addition, which had a prompt and tests of its own."""
        return self.after is not None or self.lineage is None or self.lineage.operator != "extend"

    @property
    def tests(self) -> str:
        """The outcome of the tests, in words."""
        if self.outcome:
            return self.outcome
        tests = self.answered.tests
        if self.lineage and not self.lineage.accepted:
            return f"refused: {self.lineage.reason} {self.lineage.detail}".rstrip()
        if tests is None:
            return "no tests"
        return f"passed its {tests.kind} tests" if self.lineage else f"has {tests.kind} tests"


class Turn:
    """The entries of a turn and of the data, read again after a run has rewritten their tables."""

    def __init__(self, name: str | None, config: PipelineConfig) -> None:
        """Without a `name`, only the entries of the data exist."""
        self.name, self._config = name, config
        self._kept: dict[View, tuple[Sequence[object], Mapping[str, Entry]]] = {}

    @property
    def views(self) -> Sequence[View]:
        """The views that exist."""
        return (*OF_TURN, *OF_DATA) if self.name else OF_DATA

    def present(self) -> "Turn":
        """Return this turn, or only the data if a table of the turn is missing."""
        if self.name and all(table.exists() for table in self._tables("proposed")):
            return self
        return Turn(None, self._config)

    def decisions(self, view: View) -> Path:
        """Return the file of review decisions on entries of a view."""
        if view == "items":
            return Path(configuration.declaration("evaluate").reads["decisions"])
        stage, item = ("ingest", None) if view == "records" else ("refine", self.name)
        return configuration.files(stage, item, self._config)[0]["decisions"]

    def history(self, view: View) -> Mapping[str, Sequence[Decision]]:
        """Return all decisions on entries of a view."""
        file = self.decisions(view)
        return review_decisions.history(file) if file.is_file() else {}

    def entries(self, view: View) -> Mapping[str, Entry]:
        """Return the entries of a view by id, in the order of their table. Raises FileNotFoundError if the stage that writes the table did not run."""
        decided = {identity for identity, made in self.history(view).items() if made} if view in OF_DATA else set()
        state = [*self._stamps(view), frozenset(decided)]
        kept = self._kept.get(view)
        if kept is None or kept[0] != state:
            kept = state, {entry.id: entry for entry in self._read(view, decided)}
            self._kept[view] = kept
        return kept[1]

    def neighbours(self, entry: Entry) -> list[Example]:
        """Return the examples whose prompts are nearest to that of the entry's example, the nearest first."""
        examples = self.entries("examples")
        near = entry.signals.neighbours if entry.signals else []
        return [examples[identity].before for identity in near if identity in examples]

    def _stamps(self, view: View) -> list[object]:
        try:
            return [(path, path.stat().st_mtime_ns) for path in self._tables(view)]
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"{error.filename} is not there, so there is nothing to review yet. Start `ratchet run`, or wait for the run that is writing it."
            ) from None

    def _tables(self, view: View) -> Sequence[Path]:
        """Return the files that a view is read from."""
        if view == "records":
            return [reviewed_data.quarantine(self._config)]
        if view == "items":
            return list(reviewed_data.results(self._config).values())
        reads, writes = configuration.files("refine", self.name, self._config)
        return [*(reads[table] for table in ("examples", "signals", "diagnosis")), *writes.values()]

    def _read(self, view: View, decided: Set[str]) -> list[Entry]:
        if view == "records":
            return list(self._records(decided))
        if view == "items":
            return [_of_item(item) for item in reviewed_data.evaluation_items(self._config, decided).values()]
        assert self.name
        if view == "examples":
            return [
                Entry(one.example.id, one.example, None, one.example.response, None, one.signals, one.why)
                for one in review.training_examples(self.name, self._config)
            ]
        return [_of_proposal(one) for one in review.proposals(self.name, self._config, refused=view == "refused")]

    def _records(self, decided: Set[str]) -> Iterator[Entry]:
        """Yield the refused records, and before them the rescued records that are now kept, so that a rescue can be withdrawn.

        So can the rescue of what is not found: a long text is kept in pieces, and what models are evaluated by stays refused.
        """
        refused, history = reviewed_data.refused_records(self._config), self.history("records")
        kept = reviewed_data.kept_examples(self._config, decided - refused.keys())
        for identity, example in kept.items():
            yield Entry(identity, example, None, example.response, None, None, (), outcome="kept", marks=["kept"])
        for identity in sorted(decided - refused.keys() - kept.keys()):
            if review_decisions.decision_that_counts(history[identity]):
                shown = Example(identity, [Message("assistant", "")], "text", "", identity, "train", identity, "")
                yield Entry(identity, shown, None, "", None, None, (), outcome=UNFOUND, marks=["rescued"])
        yield from map(_of_record, refused.values())


def _of_proposal(proposal: review.Proposal) -> Entry:
    return Entry(
        proposal.lineage.reviewed,
        proposal.before,
        proposal.after,
        proposal.response,
        proposal.lineage,
        proposal.signals,
        proposal.why,
        Indel.normalized_similarity(proposal.before.response, proposal.response),
    )


def _of_record(refusal: Refusal) -> Entry:
    where = refusal.where if refusal.where.startswith(refusal.source) else f"{refusal.source}: {refusal.where}"
    shown = Example(refusal.id, [Message("assistant", refusal.record)], "text", "", where, "train", where, "")
    outcome = f"refused: {refusal.reason}: {refusal.detail}".rstrip(": ")
    return Entry(refusal.id, shown, None, refusal.record, None, None, (), outcome=outcome, marks=[refusal.reason])


def _of_item(item: reviewed_data.EvaluationItem) -> Entry:
    failed = [
        f"{model} failed"
        for model, rows in item.results.items()
        if any(not row.is_loss and row.value == 0 for row in rows)
    ]
    outcome = ", ".join(item.measures) or "left out of all figures"
    example = item.example
    return Entry(
        item.id,
        example,
        None,
        example.response,
        None,
        None,
        item.outcomes,
        outcome=outcome,
        marks=[*item.measures, *failed],
    )
