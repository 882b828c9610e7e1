"""Summarise a workspace for the MLflow run of a flow, so that the table of runs answers most questions without opening a run."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks import configuration
from tasks.configuration import PipelineConfig
from tasks.core.records import metric_of
from tasks.core.training import in_words

PROFILES = Path("params")
CANDIDATE = Path("models/candidate.json")
REPORT = Path("data/report/summary.json")
PAGE = REPORT.with_name("index.html")
SHOWN = ("index.html", "README.md", "plots/*.csv")
"""The files of the report's folder that are artifacts of a run in MLflow."""
NAMED = 2
"""Stages that are named in the title of a run; if there are more, they are counted."""
SOURCES = 3
"""Sources that are named in a tag; further ones are counted."""


@dataclass(frozen=True)
class Measured:
    """The candidate of a workspace, with its figures from the report."""

    candidate: str
    hash: str
    """The hash of the candidate's files."""
    verdict: str
    """The candidate's results on the domain and elsewhere, in a few words."""
    sentence: str
    """The report's verdict."""
    rows: list[dict[str, Any]]
    """The measures: level of the reference (`before`), of the candidate (`after`), and their difference, each with its interval."""
    reference: str

    @property
    def metrics(self) -> dict[str, float]:
        """Return value and difference of each measure with the ends of their intervals: `domain_loss`, `domain_loss_low`, …

        A value without an interval has no ends.
        """
        values: dict[str, float | None] = {}
        for row in self.rows:
            name = metric_of(row["measure"])
            for prefix, side in ((name, "after"), (f"{name}_change", "difference")):
                ends = {"": "value", "_low": "low", "_high": "high"}
                values |= {f"{prefix}{ending}": row[side][end] for ending, end in ends.items()}
        return {name: value for name, value in values.items() if value is not None}


def settings_tags(config: PipelineConfig) -> dict[str, str]:
    """Return the tags of a run that follow from its settings: profile, base model, sources of data, and methods."""
    values: Any = config
    sources = list(dict.fromkeys(_place(source) for source in values.ingest.sources))
    more = [f"{len(sources) - SOURCES} more"] if len(sources) > SOURCES else []
    tags = {
        "profile": profile_name(),
        "base": _place(config.fetch.model),
        "sources": ", ".join([*sources[:SOURCES], *more]),
        "methods": in_words(configuration.parts("tune", config).values()),
    }
    return {name: text for name, text in tags.items() if text}


def profile_name() -> str:
    """Return the name of the profile whose settings params.yaml holds; `edited` if it holds those of none."""
    text = configuration.PARAMS.read_bytes()
    return next((path.stem for path in sorted(PROFILES.glob("*.yaml")) if path.read_bytes() == text), "edited")


def measured() -> Measured | None:
    """Return the candidate with its figures; None if there is no candidate, or the report does not compare it."""
    try:
        card = json.loads(CANDIDATE.read_text(encoding="utf-8"))
        report = json.loads(REPORT.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    comparison = report["comparisons"].get(card["candidate"])
    if comparison is None:
        return None
    verdict = f"{comparison['here']} here, {comparison['elsewhere']} elsewhere"
    rows = [row for row in comparison["rows"] if row["part"] in ("", "all") and row["unit"] != "bits/byte"]
    return Measured(card["candidate"], card["hash"], verdict, comparison["verdict"], rows, report["reference"])


def newly_measured(outcomes: Mapping[str, str]) -> Measured | None:
    """Return the candidate with its figures, if a run with these stage outcomes changed anything and the report is up to date."""
    done = {stage for stage, outcome in outcomes.items() if outcome not in ("failed", "not begun")}
    is_new = any(outcome != "unchanged" for outcome in outcomes.values())
    return measured() if is_new and {"report", "register"} <= done else None


def artifacts() -> list[Path]:
    """Return the files of the report that MLflow's page of a run shows as they are: pages, tables, and the model card."""
    return [path for pattern in SHOWN for path in sorted(REPORT.parent.glob(pattern))]


def title(profile: str, candidate: str | None, outcomes: Mapping[str, str]) -> str:
    """Return the name of a flow's run: its profile, its candidate, and the outcome of the stages."""
    return " · ".join(filter(None, [profile, candidate, what_ran(outcomes)]))


def what_ran(outcomes: Mapping[str, str]) -> str:
    """Return the outcome of the stages in a few words; `outcomes` maps each stage to its own."""
    for state, verb in (("failed", "failed"), ("ran", "ran"), ("restored", "restored")):
        stages = [stage for stage, outcome in outcomes.items() if outcome == state]
        if stages:
            named = ", ".join(stages) if len(stages) <= NAMED else f"{len(stages)} of {len(outcomes)} stages"
            return f"{named} {verb}"
    return "nothing ran"


def description(outcomes: Mapping[str, str], figures: Measured | None) -> str:
    """Return the description of a flow's run in Markdown: the verdict, the figures, and the stages."""
    return "\n\n".join([*_figures(figures), *_stages(outcomes)])


def _figures(figures: Measured | None) -> Iterator[str]:
    if figures is None:
        return
    yield f"**{figures.sentence}**"
    lines = [
        f"| measure | items | {figures.reference} | {figures.candidate} | difference |",
        "| --- | ---: | --- | --- | --- |",
    ]
    for row in figures.rows:
        cells = [
            metric_of(row["measure"]).replace("_", " "),
            row["items"],
            *(_interval(row[side]) for side in ("before", "after", "difference")),
        ]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    yield "\n".join(lines)
    yield "Losses are in nats per token. `data/report/index.html` in the workspace has the whole report."


def _stages(outcomes: Mapping[str, str]) -> Iterator[str]:
    for state in Counter(outcomes.values()):
        stages = [f"`{stage}`" for stage, outcome in outcomes.items() if outcome == state]
        yield f"{state} ({len(stages)}): {', '.join(stages)}"


def _interval(estimate: Mapping[str, float | None]) -> str:
    """Format an estimate and its interval, or say that there is no interval (one item) or no value."""
    value, low, high = estimate["value"], estimate["low"], estimate["high"]
    if value is None:
        return "not measured"
    return f"{value:.3f} [no interval]" if low is None or high is None else f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _place(source: Any) -> str:
    """Return a source of data or of a model in a few words, without a folder of this machine: `hub Qwen/Qwen2.5-0.5B`."""
    path = getattr(source, "path", None)
    names = (getattr(source, "id", None), getattr(source, "name", None), path.name if path else None)
    return " ".join([source.from_, *[str(name) for name in names if name][:1]])
