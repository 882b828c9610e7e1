"""Turns of the loop: signals of the examples, accepted and refused proposals, and the origins of each round's examples."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from tasks.core import origins
from tasks.core.records import Example, Lineage, Signals
from tasks.core.statistics import Estimate
from tasks.methods.curators import NEVER_FAILED
from tasks.stages.report.data.comparison import NATS, Comparison, Row

SETS = {"hard": "too hard", "low": "of low quality", "sparse": "alone"}
"""Set of examples → the words for its members."""
ORIGINS = {
    "simplify": "simplified",
    "improve": "improved",
    "extend": "added",
    "add": "new tasks",
    "edit": "edited by a person",
}
"""Operator that produced an example → the word for the example."""
AS_READ = "as read"
"""The word for examples of the first round."""
ENDS = {
    "nothing chosen": "no example lies beyond the limits",
    "converged": "nothing could be proposed for the examples that were chosen",
    "refused": "every proposal was refused",
}
"""Reason why a turn changed nothing → its text."""
NO_FAILURE = "the model failed none of the fresh tasks"
ACCEPTED, REFUSED = 3, 1
"""Most accepted and most refused proposals of each operator on the page."""
BINS = 20
"""Number of bins in the histogram of quality, which ranges from 0 to 10."""


@dataclass(frozen=True)
class Turn:
    """The output of stages `diagnose` and `refine` for a round."""

    prev: str
    signals: Sequence[Signals]
    diagnosis: Mapping[str, Any]
    refinement: Mapping[str, Any]
    lineage: Sequence[Lineage]
    before: Mapping[str, Example]
    """The examples of the previous round, by id."""
    after: Mapping[str, Example]
    """The examples of the new round, by id."""
    explain: Callable[[Signals], list[str]]
    """Returns the curator's reasons for the sets of an example."""

    def threshold(self, signal: str) -> float | None:
        """Return the limit beyond which a signal puts an example into a set; None if there is no limit."""
        limit = self.diagnosis["limits"].get(signal)
        return limit and limit["threshold"]

    @property
    def kinds(self) -> Mapping[str, Mapping[str, Any]]:
        """Return, for each kind, the numbers of fresh tasks asked, failed and to add; empty if the diagnosis looked at examples."""
        kinds: Mapping[str, Mapping[str, Any]] = self.diagnosis.get("kinds", {})
        return dict(sorted(kinds.items(), key=lambda entry: (-entry[1]["add"], entry[0])))

    @property
    def outcome(self) -> str:
        """Return the result of the turn in a sentence."""
        size, proposals = self.refinement["examples"], self.refinement["proposals"]
        if not self.refinement["changed"]:
            why = self.refinement["why"]
            reason = self._why_no_task if self.kinds and why == "nothing chosen" else ENDS.get(why, why)
            return f"Nothing changed: {reason}. Later outputs are copies of those of {self.prev}, and cost nothing."
        accepted = _counted({ORIGINS[operator]: number for operator, number in self.refinement["accepted"].items()})
        return (
            f"{size['before']:,} → {size['after']:,} examples; {proposals['accepted']:,} of {proposals['made']:,} proposals "
            f"were taken ({accepted})."
        )

    @property
    def _why_no_task(self) -> str:
        """Return the reason why no kind of tasks gets new ones."""
        whys = {counts["why"] for counts in self.kinds.values()}
        named = (
            f"{', '.join(kind for kind, counts in self.kinds.items() if counts['why'] == why)}: {why}"
            for why in sorted(whys)
        )
        return NO_FAILURE if whys == {NEVER_FAILED} else f"no kind of tasks gets new ones ({'; '.join(named)})"

    @property
    def reasons(self) -> dict[str, int]:
        """Return the number of refused proposals by operator and reason."""
        return {
            f"{operator}: {reason}": number
            for operator, counts in self.refinement["refused"].items()
            for reason, number in counts.items()
        }


@dataclass(frozen=True)
class Step:
    """A measure of two consecutive models: the base and the first round, or a round and the next."""

    before: str
    after: str
    row: Row

    @property
    def is_worse(self) -> bool:
        """Return True if the whole interval of the difference is on the worse side."""
        difference = self.row.difference
        return difference.low > 0 if self.row.unit == NATS else difference.high < 0


@dataclass(frozen=True)
class Loop:
    """All turns of the loop, by the rounds that they produce, the first round's examples, and the selection of the best round."""

    first: tuple[str, Sequence[Example]]
    turns: Mapping[str, Turn]
    selection: Mapping[str, Any]
    steps: Sequence[Step] = ()
    """Each round compared with the one before it, the first with the base; empty if a round was not measured."""
    losses: Sequence[Step] = ()
    """The same for the domain loss, if `steps` has the share of right answers."""

    @property
    def setbacks(self) -> list[Step]:
        """Return the steps in which a turn made a model worse than the one before it, by the whole interval."""
        of_turns = [step for step in (*self.steps, *self.losses) if step.after in self.turns]
        return [step for step in of_turns if step.is_worse]

    @property
    def origins(self) -> dict[str, dict[str, int]]:
        """Return the number of examples of each origin by round."""
        name, first = self.first
        known = origins.trace((example.id for example in first), (turn.lineage for turn in self.turns.values()))
        rounds = {name: [example.id for example in first]} | {
            name: list(turn.after) for name, turn in self.turns.items()
        }
        return {name: origins.count(ids, known) for name, ids in rounds.items()}


def steps(comparisons: Sequence[Comparison]) -> list[Step]:
    """Return the share of right answers of each model compared with the one before it; the domain loss if not all of them answered.

    The list is empty if neither was measured for all models.
    """
    accuracies = [comparison.accuracy for comparison in comparisons]
    rows = accuracies if all(accuracies) else [comparison.deciding_loss for comparison in comparisons]
    return [
        Step(comparison.before, comparison.after, row)
        for comparison, row in zip(comparisons, rows, strict=True)
        if row and all(rows)
    ]


def loss_steps(comparisons: Sequence[Comparison]) -> list[Step]:
    """Return the domain loss of each model compared with the one before it; an empty list if it was not measured for all."""
    rows = [comparison.deciding_loss for comparison in comparisons]
    return [
        Step(comparison.before, comparison.after, row)
        for comparison, row in zip(comparisons, rows, strict=True)
        if row and all(rows)
    ]


def levels_of(steps: Sequence[Step]) -> list[tuple[str, Estimate]]:
    """Return the measure of the base and of each round."""
    return [(step.before, step.row.before) for step in steps[:1]] + [(step.after, step.row.after) for step in steps]


@dataclass(frozen=True)
class Proposal:
    """A proposal and the example from which it was made."""

    line: Lineage
    before: Example
    after: Example | None
    """The accepted example; None if the proposal was refused."""
    why: list[str]


def shown_set(row: Signals) -> str:
    """Return the set that gives an example its colour: the first for which it was chosen, else the first to which it belongs, else `none`."""
    return next(iter([*row.chosen, *row.flags]), "none")


def count_origins(loop: Loop) -> dict[str, dict[str, int]]:
    """Count the examples of each round by origin."""
    name, examples = loop.first
    origins = {example.id: AS_READ for example in examples}
    mix = {name: dict(Counter(origins.values()))}
    for name, turn in loop.turns.items():
        origins |= {
            line.id: ORIGINS[line.operator] for line in turn.lineage if line.accepted and line.operator in ORIGINS
        }
        counts = Counter(origins.get(example, AS_READ) for example in turn.after)
        mix[name] = {origin: counts[origin] for origin in (AS_READ, *ORIGINS.values()) if counts[origin]}
    return mix


def choose_proposals(turn: Turn) -> dict[str, list[Proposal]]:
    """Choose some proposals of each operator, accepted ones first, ordered by their ids, which are hashes."""
    signals = {row.example: row for row in turn.signals}
    lines = sorted(
        (line for line in turn.lineage if line.operator in ORIGINS and line.parents and line.parents[0] in turn.before),
        key=lambda line: (line.operator, not line.accepted, line.id),
    )
    chosen: dict[str, list[Proposal]] = {}
    for (operator, accepted), group in groupby(lines, key=lambda line: (line.operator, line.accepted)):
        for line in list(group)[: ACCEPTED if accepted else REFUSED]:
            parent = line.parents[0]
            why = turn.explain(signals[parent]) if parent in signals else []
            proposal = Proposal(line, turn.before[parent], turn.after.get(line.id) if accepted else None, why)
            chosen.setdefault(operator, []).append(proposal)
    return chosen


def quality_histogram(values: Sequence[float]) -> list[int]:
    """Count the values in each of `BINS` equally wide bins from 0 to 10; 10 itself is in the last bin."""
    counts = [0] * BINS
    for value in values:
        counts[min(int(value * BINS / 10), BINS - 1)] += 1
    return counts


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number:,} {name}" for name, number in counts.items()) or "none"
