"""The page and the model card: what the templates are given, and the text they become."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from tasks.core.records import Example
from tasks.core.statistics import Bootstrap
from tasks.core.training import in_words
from tasks.core.visible import visible
from tasks.stages.report import choose, draw, faults, figures, loop, maps, tabulate
from tasks.stages.report.compare import LOSSES, PASS, Comparison, Row
from tasks.stages.report.faults import Faults
from tasks.stages.report.judge import Verdict
from tasks.stages.report.loop import Loop
from tasks.stages.report.trace import trace

SHOWN_CHARS = 4_000
"""Of an answer; a model may repeat itself for long."""
SHOWN_ROWS = 12
"""Of a table of counts; the rest becomes one row."""


@dataclass(frozen=True)
class Facts:
    """Everything the report speaks of, read and compared."""

    comparisons: Sequence[Comparison]
    verdicts: Sequence[Verdict]
    metrics: Mapping[str, Mapping[str, Any]]
    """Per model, what stage evaluate wrote."""
    courses: Mapping[str, Mapping[str, Any]]
    """Per trained model, its `training.json`."""
    faults: Mapping[str, Faults]
    """Per round, the pairs of programs whose differences its training may weigh."""
    loop: Loop | None
    """The turns by which later rounds were made, where there are any."""
    base: Mapping[str, Any]
    """The base's `ratchet.json`."""
    caveat: str
    """What the figures do not say; empty where nothing is to be said."""
    ingested: Mapping[str, Any]
    """What stage ingest counted."""
    examples: Mapping[str, Example]
    """Held-out examples by id."""
    how: Bootstrap
    margin: float
    answers: int


def page(facts: Facts) -> str:
    """The report as one HTML page that asks nobody for anything."""
    return _environment(autoescape=True).get_template("index.html.j2").render(_view(facts))


def card(facts: Facts) -> str:
    """The model card, in Markdown with the header that model hubs read."""
    return _environment(autoescape=False).get_template("README.md.j2").render(_view(facts))


def _view(facts: Facts) -> dict[str, Any]:
    traces = {name: trace(course) for name, course in facts.courses.items()}
    return {
        "facts": facts,
        "sections": [_section(facts, index) for index in range(len(facts.comparisons))],
        "curves": draw.curves(_courses(facts.courses), "Training loss over tokens") if facts.courses else None,
        "traces": traces,
        "paths": draw.paths(traces, facts.margin, "Changes of domain and general loss")
        if any(traces.values())
        else None,
        "compositions": {
            name: in_words(course.get("composition", {}).values()) for name, course in facts.courses.items()
        },
        "faults": {name: found for name, found in facts.faults.items() if found.pairs or found.refused},
        "history": _history(facts.loop) if facts.loop else None,
        "base": base_words(facts.base),
        "license": facts.base.get("source", {}).get("license") or "unknown",
        "ingested": facts.ingested,
        "domains": largest(facts.ingested["domains"]),
        "counts": {
            "Examples by licence": facts.ingested["licenses"],
            "Texts by corpus and split": {name: row["documents"] for name, row in facts.ingested["corpora"].items()},
            "Texts by licence": facts.ingested["corpus_licenses"],
            "Records refused or merged, by reason": facts.ingested["dropped"],
        },
        "here": LOSSES[facts.comparisons[0].here.measure],
        "legend": tabulate.legend(facts.comparisons, facts.how),
    }


def _history(found: Loop) -> dict[str, Any]:
    """The turns with their charts."""
    mix = loop.mix(found)
    return {
        "selection": found.selection,
        "mix": mix,
        "kinds": [
            kind for kind in (loop.FIRST, *loop.ORIGINS.values()) if any(kind in parts for parts in mix.values())
        ],
        "turns": [
            {
                "name": name,
                "turn": turn,
                "losses": maps.losses(turn),
                "neighbours": maps.neighbours(turn),
                "qualities": maps.qualities(turn),
                "proposals": loop.choose(turn),
            }
            for name, turn in found.turns.items()
        ],
    }


def _section(facts: Facts, index: int) -> dict[str, Any]:
    """One model against the reference."""
    comparison, verdict = facts.comparisons[index], facts.verdicts[index]
    passes = [row for row in comparison.rows if row.measure == PASS]
    return {
        "comparison": comparison,
        "verdict": verdict,
        "tone": _overall(verdict),
        "rows": comparison.rows,
        "losses": draw.forest(_losses(comparison, verdict, facts.margin), "Differences of losses", ("better", "worse")),
        "gains": draw.forest(_gains(passes), "Differences of pass@1", ("worse", "better")) if passes else None,
        "bars": draw.bars(_bars(comparison, passes), "pass@1 by length of the solution") if passes else None,
        "not_run": tabulate.not_run(comparison, facts.metrics),
        "human_eval_not_run": tabulate.human_eval_not_run(comparison, facts.metrics),
        "sandbox": tabulate.sandbox(comparison, facts.metrics),
        "inside": tabulate.inside(comparison),
        "outcomes": {kind: choose.outcomes(pairs) for kind, pairs in comparison.answers.items()},
        "kinds": choose.counts(comparison.tasks),
        "answers": [
            {
                "kind": choose.kind(pair),
                "example": facts.examples[pair[0].item],
                "sides": list(zip((comparison.before, comparison.after), pair, strict=True)),
            }
            for pair in choose.choose(comparison.tasks, facts.answers)
        ],
    }


def _overall(verdict: Verdict) -> str:
    if (verdict.here, verdict.elsewhere) == ("better", "no worse"):
        return "good"
    return "bad" if "worse" in (verdict.here, verdict.elsewhere) else "open"


def _losses(comparison: Comparison, verdict: Verdict, margin: float) -> list[draw.Effect]:
    tones = {"better": "good", "no worse": "good", "worse": "bad", "not decided": "open"}
    effects = []
    for row in comparison.rows:
        if row.unit == "nats/token":
            general = row.measure == "general"
            tone = tones[verdict.elsewhere] if general else _tone(row.difference.low, row.difference.high)
            effects.append(
                draw.Effect(LOSSES[row.measure], row.difference, row.unit, tone, margin if general else None)
            )
    return effects


def _gains(passes: Sequence[Row]) -> list[draw.Effect]:
    return [
        draw.Effect(row.part, row.difference, row.unit, _tone(-row.difference.high, -row.difference.low))
        for row in passes
    ]


def _tone(low: float, high: float) -> str:
    """The tone of a difference that is good below zero."""
    if high < 0:
        return "good"
    return "bad" if low > 0 else "open"


def _bars(comparison: Comparison, passes: Sequence[Row]) -> list[tuple[str, dict[str, Any]]]:
    return [(row.part, {comparison.before: row.before, comparison.after: row.after}) for row in passes]


def _courses(courses: Mapping[str, Mapping[str, Any]]) -> list[draw.Course]:
    return [
        draw.Course(name, _drawable(point[1:] for point in course.get("loss", [])), _drawable(_validation(course)))
        for name, course in courses.items()
    ]


def _validation(course: Mapping[str, Any]) -> Sequence[tuple[float, float]]:
    """The course of the loss on held-out material of the kind that trained: examples, or the domain's texts."""
    measured = course.get("measured", {})
    return next((measured[name] for name in ("validation", "domain") if name in measured), ())


def _drawable(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points (tokens, loss) whose loss is a number."""
    return [(tokens, loss) for tokens, loss in points if math.isfinite(loss)]


def base_words(base: Mapping[str, Any]) -> str:
    """Where the base model comes from."""
    source = base.get("source", {})
    match source.get("from"):
        case "hub":
            return f"{source['id']} at revision {source['revision']}"
        case "package":
            return f"the model of the Python package {source['name']} {source.get('version', '')}".rstrip()
        case "config":
            return "a small model of random weights, which has learned nothing before"
        case _:
            return "a model of the user's own"


def slug(text: str) -> str:
    """A licence as the header of a model card writes it: `apache-2.0`."""
    return re.sub(r"[^a-z0-9.+]+", "-", text.lower()).strip("-")


def most(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """The largest counts, and the sum of those that are left."""
    ordered = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    if len(ordered) <= SHOWN_ROWS + 1:
        return ordered
    rest = ordered[SHOWN_ROWS:]
    return [*ordered[:SHOWN_ROWS], (f"{len(rest)} others", sum(number for _, number in rest))]


def largest(domains: Mapping[str, Mapping[str, int]]) -> list[tuple[str, Mapping[str, int]]]:
    """The origins with the most examples, and the sum of those that are left."""
    ordered = sorted(domains.items(), key=lambda entry: (-entry[1]["examples"], entry[0]))
    if len(ordered) <= SHOWN_ROWS + 1:
        return ordered
    rest = [row for _, row in ordered[SHOWN_ROWS:]]
    return [*ordered[:SHOWN_ROWS], (f"{len(rest)} others", {key: sum(row[key] for row in rest) for key in rest[0]})]


def _cell(text: object) -> str:
    """Text that does not break a Markdown table."""
    return re.sub(r"([|<>`\[\]\\])", r"\\\1", " ".join(str(text).split()))


def _environment(*, autoescape: bool) -> Environment:
    environment = Environment(
        loader=PackageLoader("tasks.stages.report"),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "visible": partial(visible, chars=SHOWN_CHARS),
        "slug": slug,
        "most": most,
        "cell": _cell,
        "level": figures.level,
        "change": figures.change,
        "p": figures.p_value,
        "mib": figures.mebibytes,
        "number": figures.number,
        "signed": figures.signed,
    }
    environment.globals |= {
        "colour": draw.colour,
        "faults_of": faults,
        "sets": loop.SETS,
        "origins": loop.ORIGINS,
        "mixes": maps.mixes,
        "outline": maps.outline,
    }
    return environment
