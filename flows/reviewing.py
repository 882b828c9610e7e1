"""What a person is shown of a turn's proposals, and which of them nobody has decided yet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks import methods, settings
from tasks.core.records import Example, Lineage, Signals
from tasks.core.visible import visible
from tasks.io import review_decisions, tables

PROPOSED = ("simplify", "improve", "extend")
SHOWN = 4_000
"""Characters of a text on the terminal."""


@dataclass(frozen=True)
class Row:
    """A proposal beside the example that it was made from."""

    line: Lineage
    before: Example
    after: Example | None
    """What was taken; None where it was refused."""
    signals: Signals | None
    why: Sequence[str]

    @property
    def response(self) -> str:
        """What a person would edit."""
        return self.after.response if self.after else self.line.proposal


def rows(turn: str, everything: Any, *, refused: bool) -> list[Row]:
    """The proposals of a turn that were taken, or those that were refused, in the order of their table.

    Raises ValueError where params.yaml has no such turn, FileNotFoundError where it did not run.
    """
    reads, writes = settings.files("refine", turn, everything)
    lines = [
        line
        for line in tables.read(writes["lineage"], Lineage)
        if line.operator in PROPOSED and line.accepted is not refused
    ]
    before = _by_id(tables.read(reads["examples"], Example))
    after = _by_id(tables.read(writes["examples"], Example))
    signals = {row.example: row for row in tables.read(reads["signals"], Signals)}
    explain = _explain(reads["diagnosis"])
    found = []
    for line in lines:
        parent = signals.get(line.parents[0])
        why = explain(parent) if parent else []
        found.append(Row(line, before[line.parents[0]], after.get(line.id), parent, why))
    return found


def undecided(found: Sequence[Row], file: Path) -> list[Row]:
    """Those that no line of the file of decisions speaks of."""
    known = review_decisions.read(file) if file.is_file() else {}
    return [row for row in found if row.line.id not in known]


def shown(row: Row) -> str:
    """A row as text for a terminal."""
    after = row.after.messages if row.after else None
    blocks = [
        f"{row.line.operator} by {row.line.generator} · {row.before.source} · {row.line.id}",
        *([f"refused: {row.line.reason} {row.line.detail}".rstrip()] if not row.line.accepted else []),
        *row.why,
        *([_figures(row.signals)] if row.signals else []),
        "",
        "── before",
        _conversation(row.before.messages),
        "",
        "── after" if after else "── proposed",
        _conversation(after) if after else row.line.proposal,
    ]
    return "\n".join(visible(block, SHOWN) for block in blocks)


def _conversation(messages: Sequence[Any]) -> str:
    return "\n\n".join(f"{message.role}: {message.content}" for message in messages)


def _figures(signals: Signals) -> str:
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

    found = json.loads(diagnosis.read_text(encoding="utf-8"))
    explain, limits = methods.load("curators", found["curator"]).explain, curators.limits(found)
    return lambda row: explain(row, limits)


def _by_id(examples: Sequence[Example]) -> dict[str, Example]:
    return {example.id: example for example in examples}
