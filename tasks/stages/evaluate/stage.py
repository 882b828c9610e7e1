"""Stage `evaluate`: measure one model here (domain) and elsewhere (general), by loss and by programs that run.

reads   models/base/, the model, data/ingested/test.parquet, data/ingested/test_documents.parquet
writes  data/metrics/<group>/<model>.json, data/results/<group>/<model>.parquet (every item, for paired comparisons)
"""

import json
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tasks.core.records import Document, Example, Result
from tasks.core.stage import Run
from tasks.engine import device, encode, generation, scoring
from tasks.engine.encode import Encoded
from tasks.io import checkpoints, sandbox, tables
from tasks.io.sources import gym
from tasks.stages.evaluate import answer, choose
from tasks.stages.evaluate.params import EvaluateParams, Settings
from tasks.stages.evaluate.summarise import summarise


def main(inputs: dict[str, Path], outputs: dict[str, Path], settings: Settings, run: Run) -> None:
    """Score, generate, judge, and write every item beside the summary."""
    params, compute = settings.evaluate, settings.compute
    device.use(compute)
    model, tokenizer = checkpoints.load(
        inputs["model"], inputs["base"], dtype=device.dtype(compute), device=compute.device
    )
    test = tables.read(inputs["test"], Example)
    documents = tables.read(inputs["documents"], Document)

    results = [
        result
        for measure, sequences, groups in _texts(test, documents, tokenizer, params)
        for result in _score(measure, sequences, groups, model, run)
    ]
    solved, not_run = _solve(test, model, tokenizer, params, run)
    measured = summarise(results + solved, not_run, params)
    metrics = measured | {
        "model": run.item,
        "parameters": model.num_parameters(),
        "trainable": _trainable(inputs["model"]),
        "bytes": sum(file.stat().st_size for file in inputs["model"].glob("*.safetensors")),
        "settings": params.model_dump(mode="json") | {"padding": "left", "precision": device.precision(compute)},
    }
    tables.write(outputs["results"], results + solved, Result)
    outputs["metrics"].write_text(json.dumps(metrics, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    losses = {measure: figures["loss"] for measure, figures in measured.items() if "loss" in figures}
    run.log(**{f"{measure}_loss": loss for measure, loss in losses.items()})
    if not_run is None:
        run.log(pass_at_1=metrics["pass@1"]["all"]["value"])
    run.say(f"evaluate {run.item}: " + ", ".join(f"{name} {loss:.3f}" for name, loss in losses.items()) + " nats/token")


def _texts(
    test: Sequence[Example], documents: Sequence[Document], tokenizer: Any, params: EvaluateParams
) -> Iterable[tuple[str, list[Encoded], dict[str, str]]]:
    """Each measure of loss: its name, what is scored, and the group of each item."""
    fitting = [row for row in encode.examples(test, tokenizer, params.max_tokens) if row is not None]
    groups = {example.id: example.group for example in test}
    yield "domain", choose.within(fitting, params.domain_tokens, params.seed), groups
    for measure, domain in (("domain_text", "domain"), ("general", "general")):
        rows = [document for document in documents if document.domain == domain]
        if not rows:
            continue  # a corpus is a choice; the report says what could not be measured
        first = {piece.id: piece for piece in reversed(list(encode.documents(rows, tokenizer, params.max_tokens)))}
        groups = {document.id: document.group for document in rows}
        yield measure, choose.within(first.values(), params.text_tokens, params.seed), groups


def _score(measure: str, sequences: list[Encoded], groups: dict[str, str], model: Any, run: Run) -> list[Result]:
    sizes = {sequence.id: sequence.size for sequence in sequences}
    track = partial(run.track, unit="pack")
    rows = [
        Result(measure, loss.id, groups[loss.id], None, loss.nats, loss.tokens, sizes[loss.id], "", "")
        for loss in scoring.losses(model, sequences, track)
    ]
    return sorted(rows, key=lambda row: row.item)


def _solve(
    test: Sequence[Example], model: Any, tokenizer: Any, params: EvaluateParams, run: Run
) -> tuple[list[Result], str | None]:
    """The pass@1 results, or none and the reason why nothing was run."""
    usable = [row for row in test if row.tests is not None and encode.is_plain(row.prompt, tokenizer)]
    tasks = choose.sample(usable, params.pass_items, params.seed)
    if not tasks:
        return [], "no held-out example has tests" if params.pass_items else "evaluate.pass_items is 0"
    if any(example.tests.kind != "answer" for example in tasks if example.tests):
        level = sandbox.probe()
        run.note(sandbox=f"{level.number} ({level.name})")
        if level.number < 2:
            return [], "no sandbox on this machine (`ratchet doctor` says what would do)"
    track: Callable[[Any], Any] = partial(run.track, unit="batch")
    answers = generation.greedy(
        model,
        [example.prompt for example in tasks],
        tokenizer,
        max_new_tokens=params.max_new_tokens,
        batch_size=params.batch_size,
        track=track,
    )
    outcomes = answer.judge(tasks, answers, partial(sandbox.run, minimum=2), gym.score)
    return [
        Result("pass@1", task.id, task.group, task.tier, float(outcome == "passed"), 1, 1, outcome, text)
        for task, text, outcome in zip(tasks, answers, outcomes, strict=True)
    ], None


def _trainable(model: Path) -> int:
    """Parameters that training moved; 0 for the base."""
    course = model / "training.json"
    return json.loads(course.read_text(encoding="utf-8"))["trainable"] if course.is_file() else 0
