"""The turns of the loop, for people: what was found in the examples, what became of it, and what the data are made of since."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from tasks.core.records import Example, Lineage, Signals

SETS = {"hard": "too hard", "low": "of low quality", "sparse": "alone"}
"""The sets of examples, and what is said of their members."""
ORIGINS = {"simplify": "simplified", "improve": "improved", "extend": "added", "edit": "edited by a person"}
"""What made an example → what it is called then."""
FIRST = "as read"
"""What an example of the first round is called."""
ENDS = {
    "nothing chosen": "no example lies beyond the limits",
    "converged": "nothing could be proposed for the examples that were chosen",
    "refused": "every proposal was refused",
}
"""Why a turn changed nothing, in words."""
TAKEN, REFUSED = 3, 1
"""Proposals of each kind on the page."""


@dataclass(frozen=True)
class Turn:
    """What stages `diagnose` and `refine` wrote for a round."""

    prev: str
    signals: Sequence[Signals]
    diagnosis: Mapping[str, Any]
    refinement: Mapping[str, Any]
    lineage: Sequence[Lineage]
    before: Mapping[str, Example]
    """The examples that it goes on from, by id …"""
    after: Mapping[str, Example]
    """… and those that came of it."""
    explain: Callable[[Signals], list[str]]
    """The curator's reasons for the sets that an example is in."""

    def threshold(self, signal: str) -> float | None:
        """Where a signal sets an example apart; None where nothing can."""
        limit = self.diagnosis["limits"].get(signal)
        return limit and limit["threshold"]

    @property
    def outcome(self) -> str:
        """What the turn came to, in a sentence."""
        size, proposals = self.refinement["examples"], self.refinement["proposals"]
        if not self.refinement["changed"]:
            why = self.refinement["why"]
            return f"Nothing changed: {ENDS.get(why, why)}. What follows is that of {self.prev}, and costs nothing."
        made = _counted({ORIGINS[operator]: number for operator, number in self.refinement["accepted"].items()})
        return (
            f"{size['before']:,} → {size['after']:,} examples; {proposals['accepted']:,} of {proposals['made']:,} proposals "
            f"were taken ({made})."
        )

    @property
    def reasons(self) -> dict[str, int]:
        """How many proposals were refused, by what they were for and why."""
        return {
            f"{operator}: {reason}": number
            for operator, counts in self.refinement["refused"].items()
            for reason, number in counts.items()
        }


@dataclass(frozen=True)
class Loop:
    """All turns of the loop, by the rounds that they make; the first round's examples; and which round was kept."""

    first: tuple[str, Sequence[Example]]
    turns: Mapping[str, Turn]
    selection: Mapping[str, Any]


@dataclass(frozen=True)
class Proposal:
    """A proposal beside the example that it was made from."""

    line: Lineage
    before: Example
    after: Example | None
    """What was taken; None where it was refused."""
    why: list[str]


def belongs(row: Signals) -> str:
    """The set by whose colour an example is shown: the first that it was chosen for, or else belongs to; or `none`."""
    return next(iter([*row.chosen, *row.flags]), "none")


def mix(loop: Loop) -> dict[str, dict[str, int]]:
    """Round → what its examples are called, and how many of each there are."""
    name, examples = loop.first
    called = {example.id: FIRST for example in examples}
    found = {name: dict(Counter(called.values()))}
    for name, turn in loop.turns.items():
        called |= {
            line.id: ORIGINS[line.operator] for line in turn.lineage if line.accepted and line.operator in ORIGINS
        }
        counts = Counter(called.get(example, FIRST) for example in turn.after)
        found[name] = {kind: counts[kind] for kind in (FIRST, *ORIGINS.values()) if counts[kind]}
    return found


def choose(turn: Turn) -> dict[str, list[Proposal]]:
    """Some proposals of each operator, the taken ones first, by their ids (which are hashes)."""
    signals = {row.example: row for row in turn.signals}
    lines = sorted(
        (line for line in turn.lineage if line.operator in ORIGINS and line.parents and line.parents[0] in turn.before),
        key=lambda line: (line.operator, not line.accepted, line.id),
    )
    found: dict[str, list[Proposal]] = {}
    for (operator, accepted), group in groupby(lines, key=lambda line: (line.operator, line.accepted)):
        for line in list(group)[: TAKEN if accepted else REFUSED]:
            parent = line.parents[0]
            why = turn.explain(signals[parent]) if parent in signals else []
            proposal = Proposal(line, turn.before[parent], turn.after.get(line.id) if accepted else None, why)
            found.setdefault(operator, []).append(proposal)
    return found


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number:,} {name}" for name, number in counts.items()) or "none"
