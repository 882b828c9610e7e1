"""Summarise a refinement: the counts of proposals, and the main reasons if few were accepted."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tasks.core.records import Example, Lineage
from tasks.stages.refine.proposals import NOT_PROPOSED, PROPOSING, Operator

FEW = 0.1
"""The share of accepted proposals below which the main reasons of refusal are reported."""


def refinement_record(
    before: Sequence[Example],
    after: Sequence[Example],
    chosen: Sequence[Operator],
    lineage: Sequence[Lineage],
    flagged: int,
    unmatched_decisions: int,
) -> dict[str, Any]:
    """Return the contents of refinement.json.

    `chosen` has the operator of each intended change. `flagged` is the number of examples that a person flagged, and
    `unmatched_decisions` the number of decisions whose id belongs to no example or proposal.
    """
    attempts = [line for line in lineage if line.operator in PROPOSING]
    proposed = [line for line in attempts if line.reason not in NOT_PROPOSED]
    accepted = [line for line in proposed if line.accepted]
    changed = [example.id for example in after] != [example.id for example in before]
    return {
        "changed": changed,
        "why": "" if changed else _why_nothing(chosen, proposed),
        "examples": {"before": len(before), "after": len(after)},
        "chosen": _counts(chosen),
        "proposals": {"made": len(proposed), "accepted": len(accepted)},
        "accepted": _counts(line.operator for line in accepted),
        "accepted_by_generator": _counts(line.generator for line in accepted),
        "refused": {
            operator: _counts(line.reason for line in attempts if line.operator == operator and not line.accepted)
            for operator in PROPOSING
        },
        "decisions": {
            "edited": sum(line.operator == "edit" and line.accepted for line in lineage),
            "edits refused": sum(line.operator == "edit" and not line.accepted for line in lineage),
            "rejected": sum(line.operator == "reject" for line in lineage),
            "flagged": flagged,
            "about nothing here": unmatched_decisions,
        },
        "dropped": sum(line.operator == "drop" for line in lineage),
        "few": _why_few(proposed),
    }


def _why_nothing(chosen: Sequence[Operator], proposed: Sequence[Lineage]) -> str:
    if not chosen:
        return "nothing chosen"
    return "refused" if proposed else "converged"


def _why_few(proposed: Sequence[Lineage]) -> str:
    """Return a sentence if less than a tenth of the proposals were accepted, else an empty text."""
    accepted = sum(line.accepted for line in proposed)
    if not proposed or accepted >= FEW * len(proposed):
        return ""
    reasons = Counter(line.reason for line in proposed if not line.accepted).most_common(3)
    named = ", ".join(f"{reason} ({number})" for reason, number in reasons)
    return f"{accepted} of {len(proposed)} proposals were taken; most failed by: {named}."


def _counts(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))


def in_words(label: str, record: Mapping[str, Any]) -> str:
    """Return a refinement record as two to five lines of text."""
    size, proposals = record["examples"], record["proposals"]
    accepted = ", ".join(f"{number} {name}" for name, number in record["accepted"].items()) or "none"
    reasons = Counter[str]()
    for counts in record["refused"].values():
        reasons.update(counts)
    refused = ", ".join(f"{number} {reason}" for reason, number in reasons.most_common(5)) or "none"
    lines = [
        f"{label}: {size['before']} → {size['after']} examples; {proposals['accepted']} of {proposals['made']} proposals taken "
        f"({accepted})",
        f"not taken: {refused} (all in lineage.parquet)",
    ]
    lines += [f"nothing changed: {record['why']}"] if not record["changed"] else []
    lines += [f"few: {record['few']}"] if record["few"] else []
    flagged, unmatched = record["decisions"]["flagged"], record["decisions"]["about nothing here"]
    if flagged and "add" in record["chosen"]:
        lines.append(
            f"{flagged} flagged examples stay as they are: {{from: tasks}} makes new tasks, and rewrites nothing"
        )
    lines += [f"{unmatched} decisions are about examples and proposals that are not here"] if unmatched else []
    return "\n".join(lines)
