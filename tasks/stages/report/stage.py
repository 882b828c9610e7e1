"""Stage `report`: every model against the reference, for people, for programs and for whoever gets the model.

reads   models/base/ratchet.json, models/tuned/<round>/training.json, data/ingested/{report.json,test.parquet},
        data/metrics/<group>/<model>.json, data/results/<group>/<model>.parquet
writes  data/report/{summary.txt,summary.json,index.html,README.md}, data/report/plots/{loss,validation,differences,passes}.csv
"""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.core.records import Example, Result
from tasks.core.stage import Run
from tasks.core.statistics import Bootstrap
from tasks.io import tables
from tasks.stages.report import render, tabulate
from tasks.stages.report.compare import PASS, Comparison, Row, compare
from tasks.stages.report.judge import judge
from tasks.stages.report.params import Model, Settings
from tasks.stages.report.render import Facts


def main(inputs: dict[str, Path], outputs: dict[str, Path], settings: Settings, run: Run) -> None:
    """Compare, judge, and write what came of it."""
    facts = _facts(inputs, settings)
    text = tabulate.summary(facts.comparisons, facts.verdicts, facts.metrics, facts.how)

    folder = outputs["report"]
    (folder / "plots").mkdir(parents=True)
    (folder / "summary.txt").write_text(text, encoding="utf-8")
    (folder / "summary.json").write_text(_json(_summary(facts)), encoding="utf-8")
    (folder / "index.html").write_text(render.page(facts), encoding="utf-8")
    (folder / "README.md").write_text(render.card(facts), encoding="utf-8")
    for name, rows in _plots(facts).items():
        with (folder / "plots" / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)

    for comparison, verdict in zip(facts.comparisons, facts.verdicts, strict=True):
        run.note(**{f"verdict_{comparison.after}": f"{verdict.here} here, {verdict.elsewhere} elsewhere"})
        run.log(**{f"{comparison.after}_{_name(row)}": row.difference.value for row in comparison.rows})
    run.say(text.rstrip())


def _facts(inputs: Mapping[str, Path], settings: Settings) -> Facts:
    params, (reference, others) = settings.report, roles(settings.models)
    how = Bootstrap(params.resamples, params.seed, params.confidence)
    names = [reference, *others]
    places = {name: Path(settings.models[name].group) / name for name in names}
    results = {name: tables.read(inputs["results"] / f"{place}.parquet", Result) for name, place in places.items()}
    comparisons = [compare((reference, results[reference]), (name, results[name]), how) for name in others]
    courses = {name: inputs["tuned"] / name / "training.json" for name in others}
    return Facts(
        comparisons=comparisons,
        verdicts=[judge(comparison, params.general_margin) for comparison in comparisons],
        metrics={name: _read(inputs["metrics"] / f"{place}.json") for name, place in places.items()},
        courses={name: _read(path) for name, path in courses.items() if path.is_file()},
        base=_read(inputs["base"]),
        ingested=_read(inputs["ingested"]),
        examples={example.id: example for example in tables.read(inputs["test"], Example)},
        how=how,
        margin=params.general_margin,
        answers=params.answers,
    )


def roles(models: Mapping[str, Model]) -> tuple[str, list[str]]:
    """The reference, and the models to compare with it. Raises ValueError where either is missing."""
    references = [name for name, model in models.items() if model.group == "reference"]
    others = [name for name in models if name not in references]
    if len(references) != 1 or not others:
        raise ValueError(
            "params.yaml: `models` needs one model of group `reference` and at least one of another; it has "
            + (", ".join(f"{name} ({model.group})" for name, model in models.items()) or "none")
            + "."
        )
    return references[0], others


def _read(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing. `dvc repro report` makes what comes first.")
    return json.loads(path.read_text(encoding="utf-8"))


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _summary(facts: Facts) -> dict[str, Any]:
    """What summary.txt says, for programs."""
    sizes = ("parameters", "trainable", "bytes")
    pairs = zip(facts.comparisons, facts.verdicts, strict=True)
    return {
        "reference": facts.comparisons[0].before,
        "models": {name: {key: values[key] for key in sizes} for name, values in facts.metrics.items()},
        "comparisons": {
            comparison.after: {
                "here": verdict.here,
                "elsewhere": verdict.elsewhere,
                "verdict": verdict.sentence,
                "rows": [_row(row) for row in comparison.rows],
                "pass@1 not run": tabulate.not_run(comparison, facts.metrics),
            }
            for comparison, verdict in pairs
        },
        "settings": {
            "general_margin": facts.margin,
            "confidence": facts.how.confidence,
            "resamples": facts.how.resamples,
            "seed": facts.how.seed,
        },
    }


def _row(row: Row) -> dict[str, Any]:
    estimates = {"before": row.before, "after": row.after, "difference": row.difference}
    facts = {"measure": row.measure, "part": row.part, "unit": row.unit, "items": row.items}
    p = {} if row.p is None else {"mcnemar_p": round(row.p, 6)}
    return facts | {name: estimate.record() for name, estimate in estimates.items()} | p


def _name(row: Row) -> str:
    """A row's name where no sign but an underscore may stand."""
    unit = "" if row.measure == PASS else row.unit.replace("/", "_per_")
    return "_".join(filter(None, (row.measure.replace("@", "_at_"), row.part, unit, "difference")))


def _plots(facts: Facts) -> dict[str, Iterable[Sequence[Any]]]:
    """The data behind the charts, as rows under a header."""
    courses = facts.courses.items()
    return {
        "loss": [
            ("model", "step", "tokens", "loss"),
            *((name, *point) for name, course in courses for point in course.get("loss", [])),
        ],
        "validation": [
            ("model", "tokens", "loss"),
            *((name, *point) for name, course in courses for point in course.get("validation", [])),
        ],
        "differences": [
            ("model", "measure", "part", "unit", "value", "low", "high"),
            *(_difference(comparison, row) for comparison in facts.comparisons for row in comparison.rows),
        ],
        "passes": [
            ("model", "part", "value", "low", "high", "items"),
            *dict.fromkeys(line for comparison in facts.comparisons for line in _passes(comparison)),
        ],
    }


def _difference(comparison: Comparison, row: Row) -> Sequence[Any]:
    record = row.difference.record()
    return (comparison.after, row.measure, row.part, row.unit, record["value"], record["low"], record["high"])


def _passes(comparison: Comparison) -> Iterable[tuple[Any, ...]]:
    """A line for each model and tier; the reference's lines are equal in every comparison."""
    for row in comparison.rows:
        if row.measure == PASS:
            for name, estimate in ((comparison.before, row.before), (comparison.after, row.after)):
                record = estimate.record()
                yield name, row.part, record["value"], record["low"], record["high"], row.items
