"""Collect a turn's proposals for review, and format them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks import configuration
from tasks.configuration import PipelineConfig
from tasks.core.records import Example, Lineage, Message, Signals
from tasks.core.text.sensitive import search
from tasks.core.text.visible import visible
from tasks.core.text.wording import spoken
from tasks.io import review_decisions, tables

PROPOSED = ("simplify", "improve", "extend")
SHOWN = 4_000
"""Largest number of characters of a text on the terminal."""


@dataclass(frozen=True)
class Proposal:
    """A proposed rewrite, with the example from which it was made."""

    lineage: Lineage
    before: Example
    after: Example | None
    """The accepted example; None if the proposal was refused."""
    signals: Signals | None
    why: Sequence[str]

    @property
    def response(self) -> str:
        """Return the text that a reviewer would edit."""
        return self.after.response if self.after else self.lineage.proposal


@dataclass(frozen=True)
class TrainingExample:
    """An example with which a turn started, and its diagnosis."""

    example: Example
    signals: Signals | None
    why: Sequence[str]


def training_examples(turn: str, config: PipelineConfig) -> list[TrainingExample]:
    """Return the examples with which a turn started, in the order of their table.

    Raises ValueError if params.yaml has no such turn, FileNotFoundError if it did not run.
    """
    reads, _ = configuration.files("refine", turn, config)
    signals = {row.example: row for row in tables.read(reads["signals"], Signals)}
    explain = _explain(reads["diagnosis"])
    why = {name: explain(row) for name, row in signals.items()}
    return [
        TrainingExample(example, signals.get(example.id), why.get(example.id, []))
        for example in tables.read(reads["examples"], Example)
    ]


def proposals(turn: str, config: PipelineConfig, *, refused: bool) -> list[Proposal]:
    """Return the accepted proposals of a turn, or the refused ones, in the order of their table.

    Lines without a proposal are left out, because they have no answer to accept or edit.

    Raises ValueError if params.yaml has no such turn, FileNotFoundError if it did not run.
    """
    reads, writes = configuration.files("refine", turn, config)
    lineages = [
        lineage
        for lineage in tables.read(writes["lineage"], Lineage)
        if lineage.operator in PROPOSED and lineage.accepted is not refused and (lineage.accepted or lineage.proposal)
    ]
    before = _by_id(tables.read(reads["examples"], Example))
    after = _by_id(tables.read(writes["examples"], Example))
    signals = {row.example: row for row in tables.read(reads["signals"], Signals)}
    explain = _explain(reads["diagnosis"])
    collected = []
    for lineage in lineages:
        parent = signals.get(lineage.parents[0])
        why = explain(parent) if parent else []
        collected.append(Proposal(lineage, before[lineage.parents[0]], after.get(lineage.id), parent, why))
    return collected


def undecided(reviewed: Sequence[Proposal], file: Path) -> list[Proposal]:
    """Return the proposals without a line in the file of review decisions."""
    review_decisions.check_name(file)
    decided = review_decisions.read(file) if file.is_file() else {}
    return [proposal for proposal in reviewed if proposal.lineage.reviewed not in decided]


def as_text(proposal: Proposal) -> str:
    """Format a proposal for a terminal."""
    lineage, after = proposal.lineage, proposal.after.messages if proposal.after else None
    blocks = [
        f"{lineage.operator} by {lineage.generator} · {proposal.before.source} · {lineage.reviewed}",
        *([f"refused: {lineage.reason} {lineage.detail}".rstrip()] if not lineage.accepted else []),
        *proposal.why,
        *([figures(proposal.signals)] if proposal.signals else []),
        "",
        "── before",
        conversation(proposal.before.messages),
        "",
        "── after" if after else "── proposed",
        conversation(after) if after else lineage.proposal,
    ]
    return "\n".join(visible(search.redacted(block, search.SECRETS), SHOWN) for block in blocks)


def conversation(messages: Sequence[Message]) -> str:
    """Return messages as one text, each after its role."""
    return "\n\n".join(f"{message.role}: {spoken(message)}" for message in messages)


def figures(signals: Signals) -> str:
    """Return the measured signals in one line."""
    named: Mapping[str, float | None] = {
        "loss before": signals.loss_before,
        "loss after": signals.loss_after,
        "likeness to its neighbours": signals.neighbour_similarity,
        "quality": signals.quality,
    }
    return ", ".join(f"{name} {value:.3g}" for name, value in named.items() if value is not None)


def _explain(diagnosis: Path) -> Any:
    import json

    from tasks.methods import curators

    return curators.explainer(json.loads(diagnosis.read_text(encoding="utf-8")))


def _by_id(examples: Sequence[Example]) -> dict[str, Example]:
    return {example.id: example for example in examples}
