"""Entries of the page: what a person decides on. Proposals that were taken, those that were refused, and the examples before them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rapidfuzz.distance import Indel

from flows.project import review
from tasks import configuration
from tasks.configuration import PipelineConfig
from tasks.core.records import Example, Lineage, Signals

View = Literal["proposed", "refused", "examples"]


@dataclass(frozen=True)
class Entry:
    """A proposal beside the example that it was made from, or an example of the training data."""

    id: str
    """The id that a decision is on."""
    before: Example
    """The example itself, or the one that a proposal was made from."""
    after: Example | None
    """The proposed example; None of an example, and of a proposal that was refused, of which the response alone is kept."""
    response: str
    """The text that an edit replaces."""
    lineage: Lineage | None
    """None of an example."""
    signals: Signals | None
    why: Sequence[str]
    """Reasons for which the diagnosis chose the example."""
    sameness: float
    """The share of characters, 0 to 1, that the proposed response has in common with the one before."""

    @property
    def answered(self) -> Example:
        """The example whose response an edit replaces, with its prompt and its tests."""
        return self.after or self.before

    @property
    def knows_tests(self) -> bool:
        """False of a refused addition, which had a prompt and tests of its own."""
        return self.after is not None or self.lineage is None or self.lineage.operator != "extend"

    @property
    def tests(self) -> str:
        """The outcome of the tests, in words."""
        tests = self.answered.tests
        if self.lineage and not self.lineage.accepted:
            return f"refused: {self.lineage.reason} {self.lineage.detail}".rstrip()
        if tests is None:
            return "no tests"
        return f"passed its {tests.kind} tests" if self.lineage else f"has {tests.kind} tests"


class Turn:
    """The entries of a turn, read again when a run has written its tables anew."""

    def __init__(self, name: str, config: PipelineConfig) -> None:
        self.name, self._config = name, config
        self.reads, writes = configuration.files("refine", name, config)
        self._tables = (*(self.reads[table] for table in ("examples", "signals", "diagnosis")), *writes.values())
        self._kept: dict[View, tuple[Sequence[int], Mapping[str, Entry]]] = {}

    @property
    def decisions(self) -> Path:
        """The file of review decisions."""
        return self.reads["decisions"]

    def entries(self, view: View) -> Mapping[str, Entry]:
        """Return the entries of a view by id, in the order of their table. Raises FileNotFoundError if the turn did not run."""
        stamps = self._stamps()
        kept = self._kept.get(view)
        if kept is None or kept[0] != stamps:
            kept = stamps, {entry.id: entry for entry in self._read(view)}
            self._kept[view] = kept
        return kept[1]

    def neighbours(self, entry: Entry) -> list[Example]:
        """Return the examples whose prompts are nearest to that of the entry's example, the nearest first."""
        examples = self.entries("examples")
        near = entry.signals.neighbours if entry.signals else []
        return [examples[identity].before for identity in near if identity in examples]

    def _stamps(self) -> list[int]:
        try:
            return [path.stat().st_mtime_ns for path in self._tables]
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"{error.filename} is not there: a run is writing it, or none has yet. `ratchet run` does"
            ) from None

    def _read(self, view: View) -> list[Entry]:
        if view == "examples":
            return [
                Entry(one.example.id, one.example, None, one.example.response, None, one.signals, one.why, 1.0)
                for one in review.training_examples(self.name, self._config)
            ]
        return [
            Entry(
                proposal.lineage.id,
                proposal.before,
                proposal.after,
                proposal.response,
                proposal.lineage,
                proposal.signals,
                proposal.why,
                Indel.normalized_similarity(proposal.before.response, proposal.response),
            )
            for proposal in review.proposals(self.name, self._config, refused=view == "refused")
        ]
