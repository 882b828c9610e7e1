"""The verdict: is the model better here and no worse elsewhere? Three answers to each, one sentence for both."""

from dataclasses import dataclass
from typing import Literal

from tasks.core.statistics import Estimate
from tasks.stages.report import figures
from tasks.stages.report.compare import LOSSES, Comparison

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
    """What the intervals say about one model against the reference."""

    here: Here
    """Of the loss that decides here: `better` or `worse` where its difference's interval excludes 0."""
    elsewhere: Elsewhere
    """Of the general loss: `no worse` where its difference's interval stays below the margin, `worse` where it stays above."""
    claim: str
    evidence: str

    @property
    def sentence(self) -> str:
        """Claim and evidence in one sentence."""
        return f"{self.claim}: {self.evidence}."


def judge(comparison: Comparison, margin: float) -> Verdict:
    """The verdict on a comparison, with `margin` in nats per token."""
    domain, general = comparison.here, comparison.row("general")
    answer = here(domain.difference), elsewhere(general.difference, margin) if general else "not decided"
    change = figures.change(domain.difference, "nats/token")
    evidence = f"{LOSSES[domain.measure]} {change} nats per token, general loss " + (
        f"{figures.change(general.difference, 'nats/token')} against a margin of {figures.signed(margin)}"
        if general
        else "not measured, since `ingest.corpora.general` names no text"
    )
    return Verdict(*answer, WORDS[answer].format(name=comparison.after), evidence)


def here(difference: Estimate) -> Here:
    """Whether the loss here fell (after minus before)."""
    if difference.high < 0:
        return "better"
    return "worse" if difference.low > 0 else "not decided"


def elsewhere(difference: Estimate, margin: float) -> Elsewhere:
    """Whether the general loss rose by less than the margin."""
    if difference.high < margin:
        return "no worse"
    return "worse" if difference.low > margin else "not decided"
