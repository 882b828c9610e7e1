"""Compute the verdict: is a model better in its domain, and no worse on general text? Each question has three answers; one sentence gives both."""

from dataclasses import dataclass
from typing import Literal

from tasks.core.statistics import Estimate
from tasks.stages.report import number_format
from tasks.stages.report.data.comparison import LOSSES, SCORE, Comparison, Row

Here = Literal["better", "worse", "not decided"]
Elsewhere = Literal["no worse", "worse", "not decided"]

WORDS: dict[tuple[Here, Elsewhere], str] = {
    ("better", "no worse"): "{name} is better here and no worse elsewhere",
    ("better", "worse"): "{name} is better here but worse elsewhere",
    ("better", "not decided"): "{name} is better here; whether it is worse elsewhere is not decided",
    ("worse", "no worse"): "{name} is worse here, and no worse elsewhere",
    ("worse", "worse"): "{name} is worse here and worse elsewhere",
    ("worse", "not decided"): "{name} is worse here; whether it is worse elsewhere too is not decided",
    ("not decided", "no worse"): "Whether {name} is better here is not decided; it is no worse elsewhere",
    ("not decided", "worse"): "Whether {name} is better here is not decided; it is worse elsewhere",
    (
        "not decided",
        "not decided",
    ): "Neither is decided: whether {name} is better here, and whether it is worse elsewhere",
}


@dataclass(frozen=True)
class Verdict:
    """The verdict on one model against the reference, by the intervals of two differences."""

    here: Here
    """By the deciding loss of the domain: `better` or `worse` if the interval of its difference excludes 0."""
    elsewhere: Elsewhere
    """By the general loss: `no worse` if the interval of its difference is below the margin, `worse` if it is above."""
    claim: str
    evidence: str

    @property
    def sentence(self) -> str:
        """Return claim and evidence in one sentence."""
        return f"{self.claim}: {self.evidence}."


def compute_verdict(comparison: Comparison, margin: float) -> Verdict:
    """Return the verdict on a comparison, with `margin` in nats per token."""
    domain, general = comparison.deciding_loss, comparison.row("general")
    here: Here = judge_domain(domain.difference) if domain else "not decided"
    answer = here, judge_general(general.difference, margin) if general else "not decided"
    evidence = (
        f"{LOSSES[domain.measure]} {number_format.change(domain.difference, 'nats/token')} nats per token"
        if domain
        else "no loss in the domain, since the test set is empty"
    )
    evidence += ", general loss " + (
        f"{number_format.change(general.difference, 'nats/token')} against a margin of {number_format.signed(margin)}"
        if general
        else "not measured, since `ingest.corpora.general` names no text"
    )
    return Verdict(*answer, WORDS[answer].format(name=comparison.after), evidence)


def judge_domain(difference: Estimate) -> Here:
    """Return `better` if the domain's loss fell (after minus before), `worse` if it rose."""
    if difference.high < 0:
        return "better"
    return "worse" if difference.low > 0 else "not decided"


def judge_general(difference: Estimate, margin: float) -> Elsewhere:
    """Return `no worse` if the general loss rose by less than the margin, `worse` if by more."""
    if difference.high < margin:
        return "no worse"
    return "worse" if difference.low > margin else "not decided"


def count_changes(comparison: Comparison) -> str:
    """Return a sentence that says how many figures are better by their whole interval, and names those that are worse.

    Bits per byte are left out, since they say the same as nats per token, and scores of standard benchmarks, since for some lower is better.
    """
    rows = [row for row in comparison.rows if row.unit not in ("bits/byte", SCORE)]
    better, worse = ([row for row in rows if _sign(row) == sign] for sign in (1, -1))
    if not rows:
        return ""
    words = f"Of {len(rows)} figures, " + (
        "1 is better by its interval" if len(better) == 1 else f"{len(better)} are better by their intervals"
    )
    return f"{words} and none is worse." if not worse else f"{words}, and worse: {', '.join(map(_name, worse))}."


def _sign(row: Row) -> int:
    """Return 1 for a row whose whole interval is better, -1 for one whose whole interval is worse, else 0."""
    low, high = row.difference.low, row.difference.high
    if row.unit == number_format.PER_CENT:
        return int(low > 0) - int(high < 0)
    return int(high < 0) - int(low > 0)


def _name(row: Row) -> str:
    return f"{row.title} ({row.part})" if row.part else row.title
