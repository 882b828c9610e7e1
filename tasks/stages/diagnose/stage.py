"""Stage `diagnose`: measure each example of a round by the model that was trained on it (Middo), or that model by fresh tasks.

reads   models/pretrained/, models/tuned/<prev>/, data/rounds/<prev>/examples.parquet, models/embedder/, data/ingested/
writes  data/rounds/<turn>/{signals,probes}.parquet, data/rounds/<turn>/diagnosis.json; the table of probes is empty for a curator that
        looks at examples, and the table of signals for one that looks at tasks
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks import methods
from tasks.core.records import Example, Message, Probe, Signals
from tasks.core.sequences import Encoded
from tasks.core.stage import Run
from tasks.core.weights.row import listens
from tasks.engine import context, device, tokenized
from tasks.engine.chat_template import render_prompt
from tasks.engine.inference import answer_cache, embedding, neighbours, readout, scoring, writer
from tasks.engine.inference.answer_cache import Writing
from tasks.engine.inference.batches import Apply
from tasks.engine.inference.local_model import LocalModel, identity
from tasks.engine.sequences import Sequences
from tasks.io import diagnosis, provenance, tables, verifiers
from tasks.io.generators.answers import Answers
from tasks.io.sources import gym
from tasks.io.system.workers import Workers
from tasks.io.weights import checkpoints, embedders
from tasks.methods.curators import Curator, TaskCurator
from tasks.stages.diagnose import judging, probing, signals
from tasks.stages.diagnose.config import StageConfig
from tasks.stages.diagnose.screen import NOT_FINITE, Screen, transcript

EVALUATION = ("valid", "test", "gate", "benchmark")
"""Tables of stage ingest with examples that no training may see."""

BLOCK = 10_000
"""Number of examples whose prompts and questions are in memory as tokens at the same time."""


def main(inputs: dict[str, Path], outputs: dict[str, Path], config: StageConfig, run: Run) -> None:
    """Measure examples or fresh tasks, whichever the curator looks at, and write the tables and the summary."""
    name = config.diagnose.curator
    spec = methods.spec("curators", name)
    curator, curator_config = methods.load("curators", name), spec.config.model_validate(config.methods[name])
    device.use(config.compute)
    examples = tables.read(inputs["examples"], Example)
    measure = _measure_tasks if spec.looks_at == "tasks" else _measure_examples
    with Workers() as workers:
        measured = measure(examples, curator, curator_config, inputs, config, run, workers)

    tables.write(outputs["signals"], measured.signals, Signals)
    tables.write(outputs["probes"], measured.probes, Probe)
    sources = {key: inputs[key] for key in ("base", "tuned", "examples")}
    sources |= {key: outputs[key] for key in ("signals", "probes")}
    report = {"curator": name, "hashes": diagnosis.hashes(sources), **measured.summary}
    outputs["diagnosis"].write_text(json.dumps(report, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    run.say(measured.text)


class Measured(NamedTuple):
    """The result of measuring a model for a curator: the tables, the summary, and the lines to print."""

    signals: Sequence[Signals]
    probes: Sequence[Probe]
    summary: dict[str, Any]
    """Entries of diagnosis.json."""
    text: str


def _measure_tasks(
    examples: Sequence[Example],
    curator: TaskCurator,
    curator_config: Any,
    inputs: Mapping[str, Path],
    config: StageConfig,
    run: Run,
    workers: Workers,
) -> Measured:
    """Ask the tuned model fresh tasks of every kind, and decide how many new ones of each kind to add."""
    probing_config = config.diagnose.probes
    held_out = [row for name in EVALUATION for row in tables.read(inputs["ingested"] / f"{name}.parquet", Example)]
    known = {gym.prompt_key(example) for example in (*examples, *held_out)}
    kinds = gym.read_kinds(inputs["ingested"] / "generated.json")
    seed = f"probes {config.diagnose.seed} {1 + max(example.round for example in examples)}"
    tasks = probing.fresh_tasks(kinds, probing_config.each, seed, known)
    if reason := verifiers.reason_not_judged(task.tests for some in tasks.values() for task in some if task.tests):
        raise RuntimeError(f"diagnose asks no fresh tasks: {reason}. Or leave their kinds out of `ingest.sources`.")

    def grade(task: Example, answer: str) -> float:
        assert task.tests is not None, "generated tasks have verifiers"
        return verifiers.grade(task.tests, answer).score

    probes = probing.probe(tasks, partial(_answer, inputs=inputs, config=config, run=run, workers=workers), grade)
    by_kind = probing.allocation(tasks, probes, len(examples), curator, curator_config)
    summary = {**signals.totals([], 0, {}), "examples": len(examples), "kinds": by_kind}
    return Measured([], probes, summary, probing.summary(f"diagnose {run.item}", by_kind, probing_config.each))


def _answer(
    tasks: Sequence[Example], inputs: Mapping[str, Path], config: StageConfig, run: Run, workers: Workers
) -> list[str]:
    """Return the tuned model's greedy answer to each task. Answers that an earlier run generated come from the cache."""
    probing_config = config.diagnose.probes
    tuned = _model(inputs["tuned"], inputs["base"], config)
    prompts = [task.prompt for task in tasks]
    names = [task.task for task in tasks] if listens(tuned.loaded.model) else []
    known = identity(inputs["tuned"], inputs["base"], config.compute)
    responses = answer_cache.respond(
        prompts,
        [""] * len(prompts),
        Writing(probing_config.max_new_tokens, probing_config.batch_size),
        tuned.on(workers),
        Answers(run.cache / "answers"),
        [*known, probing_config.max_new_tokens],
        partial(run.track, unit="group of answers"),
        names,
    )
    return [response.text for response in responses]


def _measure_examples(
    examples: Sequence[Example],
    curator: Curator,
    curator_config: Any,
    inputs: Mapping[str, Path],
    config: StageConfig,
    run: Run,
    workers: Workers,
) -> Measured:
    """Score every example before and after training, find its neighbours, judge its quality, and choose examples to rewrite."""
    diagnose_config = config.diagnose
    base = _model(inputs["base"], None, config)
    longest = context.longest(base.loaded.model)
    screen = Screen(base.loaded.tokenizer, longest, diagnose_config.max_tokens, diagnose_config.seed)
    sequences, excluded = _looked_at(examples, screen, inputs, run)
    before = _losses(base, sequences, run, workers)
    del base  # one model in memory at a time
    local = _model(inputs["tuned"], inputs["base"], config)
    after = _losses(local, sequences, run, workers)
    excluded |= dict.fromkeys(signals.not_finite(before, after), NOT_FINITE)

    included = [example for example in examples if example.id not in excluded]
    tuned = TunedModel(local, inputs, config, run, workers)
    neighbourhood = tuned.neighbourhood(included, curator.neighbours(curator_config))
    judged = tuned.judgements(diagnose_config.quality, included, curator)
    rows = signals.signal_rows(examples, sequences, excluded, (before, after), neighbourhood, judged, curator)
    rows, limits = curator.choose(rows, curator_config)

    quality = {
        "mode": diagnose_config.quality,
        "unreadable": signals.unreadable(judged),
        "agreement": tuned.agreement(judged, included, curator),
    }
    totals = signals.totals(rows, int(sequences.tokens.sum()), limits)
    return Measured(rows, [], {"quality": quality, **totals}, summary(f"diagnose {run.item}", totals))


def _looked_at(
    examples: Sequence[Example], screen: Screen, inputs: Mapping[str, Path], run: Run
) -> tuple[Sequences, dict[str, str]]:
    """Return the sequences of the diagnosed examples, which stay on disk, and the reason for each other example, by id."""
    ordered = screen.in_order(examples)
    store = tokenized.open_store(
        lambda contents: screen.tokenized(ordered, contents),
        inputs["base"],
        {"examples": provenance.digest(inputs["examples"]), **screen.settings},
        run,
        modules=[Screen.__module__],
    )
    sequences = tokenized.Stored(store)
    return sequences, screen.excluded(ordered, store.contents.rows, {sequence.id for sequence in sequences})


def _model(folder: Path, base: Path | None, config: StageConfig) -> LocalModel:
    return LocalModel(folder, base, checkpoints.load, config.compute)


def _losses(local: LocalModel, sequences: Sequence[Encoded], run: Run, workers: Workers) -> dict[str, float]:
    track = partial(run.track, unit="pack")
    return signals.per_token(scoring.losses(local.loaded.model, sequences, track, apply=local.on(workers)))


@dataclass(frozen=True)
class TunedModel:
    """The model that was trained on the examples, with everything that is needed to query it."""

    local: LocalModel
    inputs: Mapping[str, Path]
    config: StageConfig
    run: Run
    workers: Workers

    def neighbourhood(self, examples: Sequence[Example], k: int) -> signals.Neighbourhood:
        """Return each example's nearest neighbours, by the embeddings of their prompts as plain text."""
        texts = {example.id: text for example in examples if (text := transcript(example.prompt)).strip()}
        if not texts:
            return {}
        vectors = self._vectors(list(texts.values()))
        nearest = neighbours.nearest(vectors, k, self.config.diagnose.exact_up_to)
        return signals.neighbourhood(list(texts), *nearest)

    def _vectors(self, texts: list[str]) -> NDArray[np.float32]:
        track = self._track("row")
        if self.config.diagnose.encoder == "tuned":
            blocks = [texts[start : start + BLOCK] for start in range(0, len(texts), BLOCK)]
            return np.concatenate(
                [
                    embedding.pooled(self._model, self._tokenizer(block)["input_ids"], track, apply=self._apply)
                    for block in blocks
                ]
            )
        embedder = self.inputs["embedder"]
        embedders.check(embedder, "diagnose.encoder: embedder", "set encoder: tuned")
        if not embedding.is_encoder(embedder):
            return embedders.embed(embedder, texts)
        encoder = LocalModel(embedder, None, embedding.load_encoder, self.config.compute)
        return embedding.encode(embedder, encoder.loaded, texts, track, encoder.on(self.workers))

    def judgements(self, mode: str, examples: Sequence[Example], curator: Curator) -> judging.Judgements:
        """Return the model's scores of the examples in this mode of `diagnose.quality`."""
        if mode == "none" or not examples:
            return {}
        if mode == "generate":
            return judging.in_words(examples, curator, self._fits, self._write)
        odds = partial(readout.log_odds, self._model, track=self._track("row"), apply=self._apply)
        scores: dict[str, Mapping[str, float | None]] = {}
        for start in range(0, len(examples), BLOCK):
            block = examples[start : start + BLOCK]
            scores |= judging.by_odds(block, curator, self._tokenizer, self._longest, odds)
        return scores

    def agreement(
        self, judged: judging.Judgements, examples: Sequence[Example], curator: Curator
    ) -> dict[str, Any] | None:
        """Return the agreement of judging by odds with judging by generation on `compare` examples; None if `compare` is 0."""
        config = self.config.diagnose
        if config.quality != "readout" or not config.compare:
            return None
        return signals.agreement(judged, self.judgements("generate", examples[: config.compare], curator), curator)

    @property
    def _model(self) -> Any:
        return self.local.loaded.model

    @property
    def _tokenizer(self) -> Any:
        return self.local.loaded.tokenizer

    @property
    def _apply(self) -> Apply:
        return self.local.on(self.workers)

    @property
    def _longest(self) -> int:
        return context.longest(self._model)

    def _fits(self, prompt: Sequence[Message]) -> bool:
        """Return True if a prompt and its answer fit into the model's context."""
        ids = self._tokenizer(render_prompt(prompt, self._tokenizer), add_special_tokens=False)["input_ids"]
        return len(ids) + self.config.diagnose.judging.max_new_tokens <= self._longest

    def _write(self, prompts: Sequence[Sequence[Message]], keys: Sequence[str]) -> list[str]:
        config, compute, folders = self.config.diagnose, self.config.compute, self.inputs
        write = writer.of_model(
            folders["tuned"], config.judging, compute, self.run, folders["base"], workers=self.workers
        )
        return [answer.text for answer in write(prompts, [f"{config.seed} {key}" for key in keys])]

    def _track(self, unit: str) -> Callable[[Iterable[Any]], Iterable[Any]]:
        return partial(self.run.track, unit=unit)


def summary(label: str, diagnosis: Mapping[str, Any]) -> str:
    """Return the two lines that the stage prints."""
    sets = ", ".join(f"{counts['chosen']} of {counts['found']} {name}" for name, counts in diagnosis["sets"].items())
    left_out = ", ".join(f"{count} {reason}" for reason, count in diagnosis["excluded"].items())
    return (
        f"{label}: {diagnosis['looked_at']} of {diagnosis['examples']} examples examined; to repair: {sets or 'nothing'}\n"
        f"excluded: {left_out or 'nothing'}"
    )
