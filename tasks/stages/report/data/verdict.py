"""Compute the verdict: is a model better in its domain, and no worse on general text? Three answers to each, one sentence for both."""

from dataclasses import dataclass
from typing import Literal

from tasks.core.statistics import Estimate
from tasks.stages.report import number_format
from tasks.stages.report.data.comparison import LOSSES, Comparison

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
    """On the deciding loss of the domain: `better` or `worse` if the interval of its difference excludes 0."""
    elsewhere: Elsewhere
    """On the general loss: `no worse` if the interval of its difference stays below the margin, `worse` if it stays above."""
    claim: str
    evidence: str

    @property
    def sentence(self) -> str:
        """Return claim and evidence in one sentence."""
        return f"{self.claim}: {self.evidence}."


def compute_verdict(comparison: Comparison, margin: float) -> Verdict:
    """Return the verdict on a comparison, with `margin` in nats per token."""
    domain, general = comparison.deciding_loss, comparison.row("general")
    answer = judge_domain(domain.difference), judge_general(general.difference, margin) if general else "not decided"
    change = number_format.change(domain.difference, "nats/token")
    evidence = f"{LOSSES[domain.measure]} {change} nats per token, general loss " + (
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
