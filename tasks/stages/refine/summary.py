"""What a refinement came to: counts that add up, and why few proposals were taken where few were."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tasks.core.records import Example, Lineage
from tasks.stages.refine.propose import NOTHING, OPERATORS, Job

FEW = 0.1
"""A share of accepted proposals below which a person is told why."""


def summary(
    before: Sequence[Example],
    after: Sequence[Example],
    jobs: Sequence[Job],
    lineage: Sequence[Lineage],
    unheeded: int,
) -> dict[str, Any]:
    """What refinement.json holds. `unheeded` is how many decisions are about nothing that turned up."""
    asked = [line for line in lineage if line.operator in OPERATORS.values()]
    proposed = [line for line in asked if line.reason not in NOTHING]
    accepted = [line for line in proposed if line.accepted]
    changed = [example.id for example in after] != [example.id for example in before]
    return {
        "changed": changed,
        "why": "" if changed else _why_nothing(jobs, proposed),
        "examples": {"before": len(before), "after": len(after)},
        "chosen": _counts(job.operator for job in jobs),
        "proposals": {"made": len(proposed), "accepted": len(accepted)},
        "accepted": _counts(line.operator for line in accepted),
        "accepted_by_generator": _counts(line.generator for line in accepted),
        "refused": {
            operator: _counts(line.reason for line in asked if line.operator == operator and not line.accepted)
            for operator in OPERATORS.values()
        },
        "decisions": {
            "edited": sum(line.operator == "edit" and line.accepted for line in lineage),
            "edits refused": sum(line.operator == "edit" and not line.accepted for line in lineage),
            "rejected": sum(line.operator == "reject" for line in lineage),
            "about nothing here": unheeded,
        },
        "dropped": sum(line.operator == "drop" for line in lineage),
        "few": _why_few(proposed),
    }


def _why_nothing(jobs: Sequence[Job], proposed: Sequence[Lineage]) -> str:
    if not jobs:
        return "nothing chosen"
    return "refused" if proposed else "converged"


def _why_few(proposed: Sequence[Lineage]) -> str:
    """One sentence where less than a tenth of the proposals was taken."""
    accepted = sum(line.accepted for line in proposed)
    if not proposed or accepted >= FEW * len(proposed):
        return ""
    reasons = Counter(line.reason for line in proposed if not line.accepted).most_common(3)
    named = ", ".join(f"{reason} ({number})" for reason, number in reasons)
    return f"{accepted} of {len(proposed)} proposals were taken; most failed by: {named}."


def _counts(names: Any) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))


def in_words(label: str, found: Mapping[str, Any]) -> str:
    """What a person wants to know, in two or three lines."""
    size, made = found["examples"], found["proposals"]
    by = ", ".join(f"{number} {name}" for name, number in found["accepted"].items()) or "none"
    reasons = Counter[str]()
    for counts in found["refused"].values():
        reasons.update(counts)
    refused = ", ".join(f"{number} {reason}" for reason, number in reasons.most_common(5)) or "none"
    lines = [
        f"{label}: {size['before']} → {size['after']} examples; {made['accepted']} of {made['made']} proposals taken ({by})",
        f"not taken: {refused} (all in lineage.parquet)",
    ]
    lines += [f"nothing changed: {found['why']}"] if not found["changed"] else []
    lines += [f"few: {found['few']}"] if found["few"] else []
    unknown = found["decisions"]["about nothing here"]
    lines += [f"{unknown} decisions are about examples and proposals that are not here"] if unknown else []
    return "\n".join(lines)
