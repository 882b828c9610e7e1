"""Stage `report`: compare every model with the reference, for people, for programs, and for the users of a model.

reads   models/base/ratchet.json, training.json of models/pretrained/ and models/tuned/<round>/ where they trained,
        data/rounds/<round>/{faults,faults_refused}.parquet, of a turn the outputs of stages diagnose and refine beside them,
        data/selection.json,
        data/ingested/{report.json,test.parquet}, data/metrics/<group>/<model>.json, data/results/<group>/<model>.parquet
writes  data/report/{summary.txt,summary.json,index.html,README.md},
        data/report/plots/{loss,validation,forgetting,differences,passes,signals,quality,mix,rounds}.csv
"""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from tasks.core.records import Example, FaultPair, Lineage, Refusal, Result, Signals
from tasks.core.stage import Model, Run, Turn
from tasks.core.statistics import Bootstrap
from tasks.io import tables
from tasks.methods import curators
from tasks.stages.report.config import StageConfig
from tasks.stages.report.data import loop
from tasks.stages.report.data.availability import compression_caveat
from tasks.stages.report.data.benchmark_scores import benchmark_rows
from tasks.stages.report.data.comparison import compare
from tasks.stages.report.data.fault_pairs import Faults
from tasks.stages.report.data.loop import Loop
from tasks.stages.report.data.report_data import ReportData
from tasks.stages.report.data.strength_of_tests import sentence, strength_rows
from tasks.stages.report.data.verdict import compute_verdict
from tasks.stages.report.render.data_files import metric_name, plot_tables, summary_record
from tasks.stages.report.render.pages import html_page, model_card
from tasks.stages.report.render.summary_text import summary_text

NOTHING = "Nothing was measured: `models` in params.yaml names no model.\n"


def main(inputs: dict[str, Path], outputs: dict[str, Path], config: StageConfig, run: Run) -> None:
    """Compare the models, compute the verdicts and write the report. Without models the summary says that there are none."""
    if not config.models:
        outputs["report"].mkdir(parents=True)
        (outputs["report"] / "summary.txt").write_text(NOTHING, encoding="utf-8")
        run.say(NOTHING.rstrip())
        return
    data = _report_data(inputs, config)
    text = summary_text(data)

    folder = outputs["report"]
    (folder / "plots").mkdir(parents=True)
    (folder / "summary.txt").write_text(text, encoding="utf-8")
    summary = json.dumps(summary_record(data), indent=1, ensure_ascii=False, allow_nan=False)
    (folder / "summary.json").write_text(summary + "\n", encoding="utf-8")
    (folder / "index.html").write_text(html_page(data), encoding="utf-8")
    (folder / "README.md").write_text(model_card(data), encoding="utf-8")
    for name, rows in plot_tables(data).items():
        with (folder / "plots" / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)

    for comparison, verdict in zip(data.comparisons, data.verdicts, strict=True):
        run.note(**{f"verdict_{comparison.after}": f"{verdict.here} here, {verdict.elsewhere} elsewhere"})
        run.log(None, **{f"{comparison.after}_{metric_name(row)}": row.difference.value for row in comparison.rows})
    run.say(text.rstrip())


def _report_data(inputs: Mapping[str, Path], config: StageConfig) -> ReportData:
    report_config, (reference, others) = config.report, roles(config.models)
    bootstrap = Bootstrap(report_config.resamples, report_config.seed, report_config.confidence)
    names = [reference, *others]
    paths = {name: Path(config.models[name].group) / name for name in names}
    results = {name: tables.read(inputs["results"] / f"{path}.parquet", Result) for name, path in paths.items()}
    metrics = {name: _read(inputs["metrics"] / f"{path}.json") for name, path in paths.items()}
    comparisons = [compare((reference, results[reference]), (name, results[name]), bootstrap) for name in others]
    comparisons = [
        replace(
            comparison,
            rows=[
                *comparison.rows,
                *strength_rows(comparison, metrics, bootstrap),
                *benchmark_rows(comparison, metrics, bootstrap),
            ],
        )
        for comparison in comparisons
    ]
    trained = [("pretrained", inputs["pretrained"]), *((name, inputs["tuned"] / name) for name in others)]
    courses = [(name, folder / "training.json") for name, folder in trained]
    ingested = _read(inputs["ingested"])
    return ReportData(
        comparisons=comparisons,
        verdicts=[compute_verdict(comparison, report_config.general_margin) for comparison in comparisons],
        metrics=metrics,
        courses={name: _read(path) for name, path in courses if path.is_file()},
        faults={name: _faults(inputs["rounds"] / name) for name in others if (inputs["rounds"] / name).is_dir()},
        loop=_loop(inputs, config.turns, (reference, results), bootstrap) if config.turns else None,
        base=_read(inputs["base"]),
        caveat=" ".join(
            filter(
                None,
                [
                    compression_caveat(config.models, _read(inputs["base"]).get("grid")),
                    sentence(metrics[reference]),
                    *ingested["caveats"],
                ],
            )
        ),
        ingested=ingested,
        examples={example.id: example for example in tables.read(inputs["test"], Example)},
        bootstrap=bootstrap,
        margin=report_config.general_margin,
        answers=report_config.answers,
    )


def _faults(folder: Path) -> Faults:
    pairs = tables.read(folder / "faults.parquet", FaultPair)
    return Faults(pairs, tables.read(folder / "faults_refused.parquet", Refusal))


def _loop(
    inputs: Mapping[str, Path],
    turns: Mapping[str, Turn],
    measured: tuple[str, Mapping[str, Sequence[Result]]],
    bootstrap: Bootstrap,
) -> Loop:
    rounds = inputs["rounds"]
    first = next(iter(turns.values())).prev
    examples = {name: tables.read(rounds / name / "examples.parquet", Example) for name in (first, *turns)}
    read = {name: _turn(rounds / name, turn.prev, examples[turn.prev], examples[name]) for name, turn in turns.items()}
    reference, results = measured
    chain = [reference, first, *turns]
    pairs = [
        compare((a, results[a]), (b, results[b]), bootstrap) for a, b in pairwise(chain) if {a, b} <= results.keys()
    ]
    steps = loop.steps(pairs) if len(pairs) == len(chain) - 1 else []
    return Loop((first, examples[first]), read, _read(inputs["selection"]), steps)


def _turn(folder: Path, prev: str, before: Sequence[Example], after: Sequence[Example]) -> loop.Turn:
    diagnosis = _read(folder / "diagnosis.json")
    return loop.Turn(
        prev=prev,
        signals=tables.read(folder / "signals.parquet", Signals),
        diagnosis=diagnosis,
        refinement=_read(folder / "refinement.json"),
        lineage=tables.read(folder / "lineage.parquet", Lineage),
        before={example.id: example for example in before},
        after={example.id: example for example in after},
        explain=curators.explainer(diagnosis),
    )


def roles(models: Mapping[str, Model]) -> tuple[str, list[str]]:
    """Return the reference and the models to compare with it. Raises ValueError if either is missing."""
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
