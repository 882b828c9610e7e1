"""Small results whose report can be computed by hand, and a function that runs the stage on them."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tasks.core.records import Document, Example, FaultPair, Lineage, Message, Refusal, Result, Signals, Tests
from tasks.core.statistics import pass_at_k
from tasks.io import tables
from tasks.stages.report import stage
from tasks.stages.report.config import StageConfig
from tests.support import ScratchRun

GROUPS = 8
HOSTILE = "<script>alert(1)</script></pre><img src=https://evil.example/x onerror=alert(2)>{{ 7 * 7 }}\x1b[2J\u202e"
INGESTED: dict[str, Any] = {
    "sources": {"package toolz": {"read": 5, "kept": 3, "merged": 1, "refused": {"untested": 1}}},
    "splits": {"test": {"examples": 3, "groups": 2}},
    "domains": {"toolz": {"examples": 3, "train": 1, "valid": 1, "test": 1, "gate": 0}},
    "licenses": {"BSD-3-Clause": 3},
    "tiers": {"short": {"examples": 3, "test": 1}},
    "corpora": {"general test": {"documents": 8, "groups": 8, "chars": 800}},
    "corpus_licenses": {"MIT": 8},
    "dropped": {"untested": 1, "duplicate": 1},
    "pretraining": "Packages may be part of what the base was trained on.",
    "caveats": [],
}
COURSE: dict[str, Any] = {
    "composition": {"adapter": "lora", "selector": "all", "optimizer": "adamw", "objective": "cross_entropy"},
    "loss": [[step, 100 * step, 2 - step / 10] for step in range(1, 6)],
    "measured": {"validation": [[0, 2.0], [500, 1.5]]},
    "tokens": 500,
    "trainable": 1234,
}
PRETRAINING: dict[str, Any] = COURSE | {
    "composition": {"expander": "adept", "optimizer": "adamw"},
    "measured": {"domain": [[0, 3.0], [200, 2.75], [500, 2.5]], "general": [[0, 4.0], [200, 3.99], [500, 4.125]]},
}


def losses(measure: str, level: float) -> list[Result]:
    """Return one item of ten tokens and forty bytes in each group. The losses average `level` nats per token, and all differ."""
    return [
        Result(measure, f"{measure} {index}", f"g{index}", None, 10 * level + index % 2 - 0.5, 10, 40, "", "")
        for index in range(GROUPS)
    ]


def answers(passed: Sequence[bool], output: str = "return 1") -> list[Result]:
    """Return an answer to each task, alternately short and long."""
    return [
        Result(
            "pass@1", f"t{i}", f"g{i}", ("short", "long")[i % 2], float(p), 1, 1, "passed" if p else "syntax", output
        )
        for i, p in enumerate(passed)
    ]


def drawn(passed: Sequence[int], samples: int = 4, exam: str = "") -> list[Result]:
    """Return the samples of each task, `passed` of which pass, and pass@1 and pass@2 by sampling."""
    rows = [
        Result(
            f"{exam}sample {n}",
            f"t{i}",
            f"g{i}",
            None,
            float(n < p),
            1,
            1,
            "passed" if n < p else "timeout",
            "return 2",
        )
        for i, p in enumerate(passed)
        for n in range(samples)
    ]
    return rows + [
        Result(
            f"{exam}sampled pass@{k}", f"t{i}", f"g{i}", None, pass_at_k(samples, p, k), 1, 1, f"{p} of {samples}", ""
        )
        for k in (1, 2)
        for i, p in enumerate(passed)
    ]


def human_eval(passed: Sequence[bool]) -> list[Result]:
    """Return a first answer to each problem."""
    return [
        Result(
            "human_eval pass@1",
            f"HumanEval/{i}",
            f"HumanEval/{i}",
            None,
            float(p),
            1,
            1,
            "passed" if p else "import",
            "",
        )
        for i, p in enumerate(passed)
    ]


def results(domain: float = 2.0, general: float = 3.0, passed: Sequence[bool] = (), output: str = "") -> list[Result]:
    """Return every measure of one model."""
    text = losses("domain_text", domain)
    return [*losses("domain", domain), *text, *losses("general", general), *answers(passed, output)]


def example(index: int, response: str = "def f(): ...") -> Example:
    """Return the held-out task behind an answer."""
    turns = [Message("user", f"Write f number {index}. {HOSTILE}"), Message("assistant", response)]
    tests = Tests("doctest", ">>> f()", "f")
    return Example(
        f"t{index}", turns, "function", "toolz", f"g{index}", "test", "toolz 1: t.py:f", "BSD", tests, "short"
    )


def document(measure: str, index: int) -> Document:
    """Return the held-out text behind a loss."""
    return Document(f"{measure} {index}", "A text.", "general", f"g{index}", "test", f"notes.md: §{index}", "MIT")


def trained(name: str, response: str = "return 1", **fields: Any) -> Example:
    """Return an example of a round."""
    messages = [Message("user", f"Write {name}. {HOSTILE}"), Message("assistant", response)]
    return Example(name, messages, "function", "toolz", name, "train", f"toolz 1: {name}", "BSD", **fields)


def signals(example: str, before: float | None, after: float | None, alike: float | None, **fields: Any) -> Signals:
    """Return the signals of an example: losses, similarity to its neighbours, and further fields by name."""
    unknown = {
        field.name: None for field in dataclasses.fields(Signals) if "_" in field.name or field.name == "quality"
    }
    values = {"tokens": 10, "neighbours": [], "flags": [], "chosen": [], "excluded": ""} | unknown
    values |= {"example": example, "loss_before": before, "loss_after": after, "neighbour_similarity": alike}
    return Signals(**(values | fields))


def line(new: str, parent: str, operator: str, refused: str = "") -> Lineage:
    """Return a proposal that was accepted, or refused for a reason."""
    return Lineage(new, [parent], operator, "rename", "", not refused, refused, HOSTILE if refused else "", "return 2")


@dataclass
class Round:
    """The output of stages diagnose and refine for `r1`: of four examples, one was simplified, and a similar example was added to another."""

    first: list[Example] = field(default_factory=lambda: [trained(name) for name in "abcd"])
    second: list[Example] = field(
        default_factory=lambda: [trained("a2", HOSTILE), *(trained(name) for name in "bcd"), trained("e")]
    )
    signals: list[Signals] = field(
        default_factory=lambda: [
            signals("a", 4.0, 3.0, 0.9, quality=6.0, flags=["hard"], chosen=["hard"]),
            signals("b", 2.0, 1.0, 0.8, quality=10.0, flags=["low"]),
            signals("c", 2.0, 1.5, 0.1, quality=0.0, flags=["sparse"], chosen=["sparse"]),
            signals("d", None, None, None, excluded="not looked at"),
        ]
    )
    lineage: list[Lineage] = field(
        default_factory=lambda: [
            line("a2", "a", "simplify"),
            line("e", "c", "extend"),
            line("x", "c", "extend", "a copy"),
        ]
    )
    refinement: dict[str, Any] = field(
        default_factory=lambda: {
            "changed": True,
            "why": "",
            "few": "",
            "examples": {"before": 4, "after": 5},
            "proposals": {"made": 3, "accepted": 2},
            "accepted": {"extend": 1, "simplify": 1},
            "accepted_by_generator": {"rename": 2},
            "refused": {"extend": {"a copy": 1}, "improve": {}, "simplify": {}},
        }
    )
    diagnosis: dict[str, Any] = field(
        default_factory=lambda: {
            "curator": "middo",
            "limits": {
                "loss_before": {"mean": 2.5, "std": 0.5, "threshold": 3.0},
                "loss_after": {"mean": 2.0, "std": 0.5, "threshold": 2.5},
                "neighbour_similarity": {"mean": 0.6, "std": 0.3, "threshold": 0.3},
                "quality": {"mean": 7.0, "std": 1.0, "threshold": None},
            },
            "sets": {name: {"found": 1, "chosen": int(name != "low")} for name in ("hard", "low", "sparse")},
            "examples": 4,
            "looked_at": 3,
            "excluded": {"not looked at": 1},
            "quality": {"mode": "readout", "unreadable": None, "agreement": None},
        }
    )

    def write(self, rounds: Path) -> None:
        """Write the round in the form in which the stages write it."""
        tables.write(rounds / "r0/examples.parquet", self.first, Example)
        tables.write(rounds / "r1/examples.parquet", self.second, Example)
        tables.write(rounds / "r1/signals.parquet", self.signals, Signals)
        tables.write(rounds / "r1/lineage.parquet", self.lineage, Lineage)
        _write(rounds / "r1/diagnosis.json", self.diagnosis)
        _write(rounds / "r1/refinement.json", self.refinement)


def run_stage(
    folder: Path,
    models: Mapping[str, list[Result]],
    *,
    ingested: Mapping[str, Any] = INGESTED,
    metrics: Mapping[str, Any] | None = None,
    pretraining: Mapping[str, Any] | None = None,
    faults: tuple[list[FaultPair], list[Refusal]] | None = None,
    turn: Round | None = None,
    tasks: int = 40,
    grid: str | None = None,
    cards: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    **report: Any,
) -> tuple[Path, ScratchRun]:
    """Write the inputs of the stage, run it, and return its folder and the run. The first model is the base.

    The model named `pretrained` was not tuned, and the one named `compressed` was compressed. `pretraining` is the training log of the
    pretraining, if there was one. `grid` is the quantisation grid of the base's original weights. `cards` are those of trained models.
    """
    groups = {name: "rounds" if index else "reference" for index, name in enumerate(models)}
    groups |= {"compressed": "compressed"} if "compressed" in models else {}
    for index, (name, rows) in enumerate(models.items()):
        tables.write(folder / "results" / groups[name] / f"{name}.parquet", rows, Result)
        facts = {"model": name, "parameters": 10_000, "trainable": 1234 * index, "bytes": 2**20, **(metrics or {})}
        _write(folder / "metrics" / groups[name] / f"{name}.json", facts)
        if index and name != "pretrained":
            _write(folder / "tuned" / name / "training.json", COURSE)
    source = {"from": "package", "name": "m", "version": "1", "license": "Apache-2.0"}
    _write(folder / "ratchet.json", {"source": source, "grid": grid})
    if pretraining:
        _write(folder / "pretrained" / "training.json", pretraining)
    for name, card in cards.items():
        _write(folder / ("pretrained" if name == "pretrained" else f"tuned/{name}") / "ratchet.json", card)
    _write(folder / "ingested.json", ingested)
    tables.write(folder / "test.parquet", [example(index) for index in range(tasks)], Example)
    tables.write(folder / "documents.parquet", [document("general", index) for index in range(GROUPS)], Document)

    for name in models:
        if faults is not None and groups[name] == "rounds":
            tables.write(folder / "rounds" / name / "faults.parquet", faults[0], FaultPair)
            tables.write(folder / "rounds" / name / "faults_refused.parquet", faults[1], Refusal)

    if turn:
        turn.write(folder / "rounds")
        for name in ("r0", "r1"):
            if not (folder / f"rounds/{name}/faults.parquet").is_file():
                tables.write(folder / f"rounds/{name}/faults.parquet", [], FaultPair)
                tables.write(folder / f"rounds/{name}/faults_refused.parquet", [], Refusal)
    _write(folder / "selection.json", {"round": "r0", "why": "the lowest validation loss of 2 rounds: r0 1.0, r1 2.0"})

    inputs = {name: folder / name for name in ("metrics", "results", "pretrained", "tuned", "rounds")}
    inputs |= {
        "selection": folder / "selection.json",
        "base": folder / "ratchet.json",
        "ingested": folder / "ingested.json",
        "test": folder / "test.parquet",
        "documents": folder / "documents.parquet",
    }
    sections = {
        "report": report,
        "turns": {"r1": {"prev": "r0"}} if turn else {},
        "models": {n: {"path": f"models/{n}", "base": "models/base", "group": g} for n, g in groups.items()},
    }
    run = ScratchRun(folder)
    stage.main(inputs, {"report": folder / "report"}, StageConfig.model_validate(sections), run)
    return folder / "report", run


def _write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
