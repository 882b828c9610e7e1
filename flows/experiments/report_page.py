"""Make the report's page on request: for the workspace, with figures that outputs of stages must not contain, or for any two models."""

import difflib
import json
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flows.execution.dvc import cache, lock_file
from flows.experiments import model_differences
from flows.experiments.model_differences import GATE_SET, ModelRecord
from flows.registry import history, promotion, versions
from tasks import configuration
from tasks.configuration import PipelineConfig
from tasks.io.runs import run_curves, run_links
from tasks.io.system import git

FOLDER = Path(".ratchet/report")
"""The folder of pages on request. `data/report/` has the reproducible page of the stage."""
GATE_TEXTS = Path("data/ingested/gate_documents.parquet")
TELEMETRY = {"train/tokens_per_second": "tokens_per_second"}
"""Metric in MLflow → quantity on the page, for metrics that are not reproducible. The reproducible ones are in training.json."""
EARLIER = {"train/learning_rate": "learning_rate", "train/gradient_norm": "gradient_norm"}
"""The same, for trainings whose training.json lacks these metrics."""


@dataclass(frozen=True)
class Side:
    """One of two models to compare: its name, and the files of its figures."""

    name: str
    results: Path
    metrics: Path | None = None
    trained: Path | None = None
    record: ModelRecord | None = None
    """For a model of the registry, its results on the gate set; None for a model that was measured on the test set."""


def of_workspace() -> tuple[Path, str]:
    """Make the page of this workspace. Return its path, and the verdict in words."""
    config = configuration.load()
    if not config.models:
        raise ValueError(
            "Nothing was measured: `models` in params.yaml names no model. params/workstation.yaml shows how it names those of a run."
        )
    runs = [(stage, name, address) for stage, (name, address) in run_links.of_outputs().items()]
    around = {"telemetry": _telemetry(config), "runs": runs, "runs_hint": run_links.hint()}
    return _make(FOLDER / "index.html", config, [], _since_champion() | around)


def of_two(first: str, second: str) -> tuple[Path, str]:
    """Make the page of two models. Return its path, and the verdict on the second in words.

    Raises ValueError if a name is not a model, or if the two were not measured on the same set.
    """
    config = configuration.load()
    sides = [_side(name, config) for name in (first, second)]
    if sides[0].name == sides[1].name:
        raise ValueError(f"{first} and {second} are both {sides[0].name}: name two models.")
    before, after = (side.record for side in sides)
    if (before is None) != (after is None):
        of_gate, of_test = sorted(sides, key=lambda side: side.record is None)
        raise ValueError(
            f"{of_gate.name} was measured on the gate set, and {of_test.name} on the test set: compare two versions of the registry, "
            "or two models of params.yaml or of commits."
        )
    around = {"command": shlex.join(["ratchet", "report", first, second])}
    if before and after:
        around |= _since(before, after)
    name = "-".join("".join(letter if letter.isalnum() else "_" for letter in side.name) for side in sides)
    return _make(FOLDER / f"{name}.html", config, sides, around)


def _make(path: Path, config: PipelineConfig, sides: Sequence[Side], around: Mapping[str, Any]) -> tuple[Path, str]:
    commit = git.commit()
    request = {
        "to": str(path),
        "config": configuration.for_stage("report", config).model_dump(mode="json"),
        "sides": [{key: str(value) for key, value in _files(side).items() if value} for side in sides],
        **({"examples": str(GATE_SET), "documents": str(GATE_TEXTS)} if any(side.record for side in sides) else {}),
        "surroundings": {
            **around,
            "commit": "" if commit == "none" else commit,
            "changed_since_commit": git.has_changes(Path()),
        },
    }
    command = [sys.executable, "-m", "tasks.stages.report.page_request"]
    answer = subprocess.run(command, input=json.dumps(request), capture_output=True, text=True, check=False)
    if answer.returncode:
        raise ValueError(
            answer.stderr.strip().splitlines()[-1] if answer.stderr.strip() else "the page's process ended early"
        )
    return path, json.loads(answer.stdout)["verdict"]


def _files(side: Side) -> dict[str, Any]:
    return {"name": side.name, "results": side.results, "metrics": side.metrics, "trained": side.trained}


def _side(name: str, config: PipelineConfig) -> Side:
    """Return the model with a name: an entry of `models`, `COMMIT:ENTRY`, a version's number, `champion` or `candidate`."""
    if name in config.models:
        file = Path(config.models[name].group) / name
        folder = Path(config.models[name].path)
        return Side(name, Path("data/results") / f"{file}.parquet", Path("data/metrics") / f"{file}.json", folder)
    if ":" in name:
        return _side_of_commit(*name.rsplit(":", 1))
    if name in ("candidate", "champion") or name.isdecimal():
        record = model_differences.load_record(name)
        if not record.judged:
            raise ValueError(
                f"The candidate was not judged, and its items of the gate set are not shown before that: `ratchet promote` judges it, or "
                f"compare it on the test set as {record.card['candidate']}."
            )
        return Side(record.name, _gate_results(name), record=record)
    near = difflib.get_close_matches(name, config.models, n=1)
    hint = f"Did you mean {near[0]}?" if near else f"Models are: {', '.join(config.models)}."
    raise ValueError(f"{name!r} is neither a model of params.yaml, nor a version, nor COMMIT:MODEL. {hint}")


def _gate_results(name: str) -> Path:
    """Return the table of a version's results on the gate set, or of the candidate's."""
    if name == "candidate":
        return (
            Path(promotion.RESULTS)
            / f"{json.loads(promotion.CANDIDATE.read_text(encoding='utf-8'))['candidate']}.parquet"
        )
    number = history.read().champion if name == "champion" else int(name)
    return versions.folder(number) / versions.RESULTS


def _side_of_commit(revision: str, name: str) -> Side:
    """Return a model from a commit's dvc.lock, with its files from DVC's cache."""
    lock = lock_file.parse(git.file_at(revision, lock_file.PATH))
    digests = {out["path"]: out.get("md5", "") for entry in lock.values() for out in entry.get("outs", [])}
    named = {path: digest for path, digest in digests.items() if Path(path).stem == name}
    results = next((path for path in named if path.startswith("data/results/")), None)
    metrics = next((path for path in named if path.startswith("data/metrics/")), None)
    if results is None or metrics is None:
        measured = sorted(Path(path).stem for path in digests if path.startswith("data/results/"))
        raise ValueError(f"{revision} measured no model {name!r}. It measured: {', '.join(measured) or 'none'}.")
    files = cache.files({results: named[results], metrics: named[metrics]})
    return Side(f"{revision}:{name}", files[results], files[metrics])


def _since_champion() -> dict[str, Any]:
    """Return the changes since the champion; empty without a champion or a candidate."""
    if history.read().champion == history.REFERENCE or not promotion.CANDIDATE.is_file():
        return {}
    return _since(model_differences.load_record("champion"), model_differences.load_record("candidate"))


def _since(before: ModelRecord, after: ModelRecord) -> dict[str, Any]:
    return {
        "since": f"the champion, {before.name}" if after.name == "candidate" else before.name,
        "changes": [asdict(cause) for cause in model_differences.causes(before, after)],
        "machine": model_differences.machine_changes(before, after),
    }


def _telemetry(config: PipelineConfig) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """Return the metrics of each step in the trainings' MLflow runs, over the trained tokens: quantity → model → points."""
    trained = {"pretrained": ("pretrain", Path("models/pretrained"))}
    trained |= {name: (f"tune@{name}", Path("models/tuned") / name) for name in config.rounds}
    quantities: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for name, (stage, folder) in trained.items():
        course_file = folder / "training.json"
        if not course_file.is_file():
            continue
        course = json.loads(course_file.read_text(encoding="utf-8"))
        wanted = TELEMETRY | {metric: quantity for metric, quantity in EARLIER.items() if quantity not in course}
        tokens = {step: tokens for step, tokens, _ in course["loss"]}
        for metric, points in run_curves.of_stage(stage, list(wanted)).items():
            values = [(tokens[step], value) for step, value in points if step in tokens]
            quantities.setdefault(wanted[metric], {})[name] = values
    return quantities
