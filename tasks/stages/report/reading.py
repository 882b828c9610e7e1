"""Read and compare the data of a report: every measured model of a workspace, or any two tables of results."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from tasks.core.records import Document, Example, FaultPair, Lineage, Refusal, Result, Signals
from tasks.core.stage import Model, Turn
from tasks.core.statistics import Bootstrap
from tasks.io import tables
from tasks.methods import curators
from tasks.stages.report.config import ReportConfig, StageConfig
from tasks.stages.report.data import loop, settings
from tasks.stages.report.data.availability import compression_caveat, left_out_caveat
from tasks.stages.report.data.benchmark_scores import benchmark_rows
from tasks.stages.report.data.comparison import Comparison, compare
from tasks.stages.report.data.fault_pairs import Faults
from tasks.stages.report.data.loop import Loop
from tasks.stages.report.data.report_data import ReportData
from tasks.stages.report.data.strength_of_tests import sentence, strength_rows
from tasks.stages.report.data.verdict import compute_verdict

CARD = "ratchet.json"
"""File name of a model's card, which is in the folder of its weights."""


@dataclass(frozen=True)
class Measured:
    """A measured model, whose files may be anywhere."""

    name: str
    results: Path
    """The table of its results."""
    metrics: Path | None
    """The figures that stage `evaluate` wrote; None if only the results were kept."""
    trained: Path | None
    """The folder of its training; None if there was none or it was not kept."""


def read_workspace(inputs: Mapping[str, Path], config: StageConfig) -> ReportData:
    """Return the comparison of all models of a workspace with the reference."""
    reference, others = roles(config.models)
    folders = {"pretrained": inputs["pretrained"]}
    folders |= {name: inputs["tuned"] / name for name in others if name not in folders}
    models = []
    for name in (reference, *others):
        file = Path(config.models[name].group) / name
        results, metrics = inputs["results"] / f"{file}.parquet", inputs["metrics"] / f"{file}.json"
        models.append(Measured(name, results, metrics, folders.get(name)))
    data = read_models(models, inputs, config.report, trained=folders)
    selected, base = _read_if_there(inputs["selection"]).get("round"), read_json(inputs["base"])
    caveats = [compression_caveat(config.models, base.get("grid")), data.caveat]
    return replace(
        data,
        leading=selected if selected in others else others[-1],
        faults={name: _faults(inputs["rounds"] / name) for name in others if (inputs["rounds"] / name).is_dir()},
        loop=_loop(inputs, config.turns, data) if config.turns else None,
        caveat=" ".join(filter(None, caveats)),
    )


def read_models(
    models: Sequence[Measured],
    inputs: Mapping[str, Path],
    config: ReportConfig,
    *,
    trained: Mapping[str, Path] | None = None,
) -> ReportData:
    """Return the comparison of the first model with each of the others. The last model leads.

    `inputs` has the base's card, the counts of the data, and the held-out examples and texts. `trained` are the folders of the trainings to
    show; by default those of the models.
    """
    bootstrap = Bootstrap(config.resamples, config.seed, config.confidence)
    results = {model.name: tables.read(model.results, Result) for model in models}
    metrics = {model.name: read_json(model.metrics) if model.metrics else {} for model in models}
    (reference, *others) = results
    comparisons = [
        _compared((reference, results[reference]), (name, results[name]), metrics, bootstrap) for name in others
    ]
    folders = trained or {model.name: model.trained for model in models if model.trained}
    courses = {
        name: folder / "training.json" for name, folder in folders.items() if (folder / "training.json").is_file()
    }
    cards = {name: _read_if_there(path.with_name(CARD)) for name, path in courses.items()}
    by_weights = {card["weights"]: name for name, card in cards.items() if "weights" in card}
    ingested = read_json(inputs["ingested"])
    return ReportData(
        comparisons=comparisons,
        verdicts=[compute_verdict(comparison, config.general_margin) for comparison in comparisons],
        leading=others[-1],
        results=results,
        metrics=metrics,
        courses={name: read_json(path) for name, path in courses.items()},
        settings={name: settings.by_name(card) for name, card in cards.items()},
        parents={name: by_weights[card["parent"]] for name, card in cards.items() if card.get("parent") in by_weights},
        faults={},
        loop=None,
        base=read_json(inputs["base"]),
        caveat=" ".join(filter(None, [sentence(metrics[reference]), left_out_caveat(metrics), *ingested["caveats"]])),
        ingested=ingested,
        examples={example.id: example for example in tables.read(inputs["test"], Example)},
        text_sources=_text_sources(inputs["documents"]),
        bootstrap=bootstrap,
        margin=config.general_margin,
        answers=config.answers,
        named_measures=config.aspects,
    )


def _compared(
    before: tuple[str, Sequence[Result]],
    after: tuple[str, Sequence[Result]],
    metrics: Mapping[str, Mapping[str, Any]],
    bootstrap: Bootstrap,
) -> Comparison:
    """Return a comparison with the rows that need more than the results of items."""
    comparison = compare(before, after, bootstrap)
    further = (*strength_rows(comparison, metrics, bootstrap), *benchmark_rows(comparison, metrics, bootstrap))
    return replace(comparison, rows=[*comparison.rows, *further])


def _text_sources(path: Path) -> dict[str, str]:
    """Return the source of each text by its id, without reading the texts."""
    tables.count(path, Document)  # reports a file that is not such a table
    columns = tables.scan([path], Document).select("id", "source").collect()
    return dict(columns.iter_rows())


def _faults(folder: Path) -> Faults:
    pairs = tables.read(folder / "faults.parquet", FaultPair)
    return Faults(pairs, tables.read(folder / "faults_refused.parquet", Refusal))


def _loop(inputs: Mapping[str, Path], turns: Mapping[str, Turn], data: ReportData) -> Loop:
    rounds = inputs["rounds"]
    first = next(iter(turns.values())).prev
    examples = {name: tables.read(rounds / name / "examples.parquet", Example) for name in (first, *turns)}
    read = {name: _turn(rounds / name, turn.prev, examples[turn.prev], examples[name]) for name, turn in turns.items()}
    results, known = data.results, {(one.before, one.after): one for one in data.comparisons}
    chain = [data.comparisons[0].before, first, *turns]
    pairs = [
        known.get((a, b)) or compare((a, results[a]), (b, results[b]), data.bootstrap)
        for a, b in pairwise(chain)
        if {a, b} <= results.keys()
    ]
    measured_all = pairs if len(pairs) == len(chain) - 1 else []
    steps, losses = loop.steps(measured_all), loop.loss_steps(measured_all)
    return Loop(
        (first, examples[first]), read, read_json(inputs["selection"]), steps, losses if losses != steps else ()
    )


def _turn(folder: Path, prev: str, before: Sequence[Example], after: Sequence[Example]) -> loop.Turn:
    diagnosis = read_json(folder / "diagnosis.json")
    return loop.Turn(
        prev=prev,
        signals=tables.read(folder / "signals.parquet", Signals),
        diagnosis=diagnosis,
        refinement=read_json(folder / "refinement.json"),
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


def _read_if_there(path: Path) -> Any:
    """Return the contents of a file; an empty record if there is no file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def read_json(path: Path) -> Any:
    """Return the contents of a file. Raises FileNotFoundError that names the command to create it."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing. `ratchet run report` makes what comes first.")
    return json.loads(path.read_text(encoding="utf-8"))
