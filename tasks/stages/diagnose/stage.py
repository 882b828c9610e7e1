"""Stage `diagnose`: measure each example of a round by the model that was trained on it (Middo).

reads   models/pretrained/, models/tuned/<prev>/, data/rounds/<prev>/examples.parquet, models/embedder/
writes  data/rounds/<turn>/signals.parquet, data/rounds/<turn>/diagnosis.json
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks import methods
from tasks.core.records import Example, Message, Signals
from tasks.core.sequences import Encoded
from tasks.core.stage import Run
from tasks.engine import device, encode
from tasks.engine.chat_template import render_prompt
from tasks.engine.inference import embedding, neighbours, readout, scoring, writer
from tasks.io import diagnosis, tables
from tasks.io.weights import checkpoints, embedders
from tasks.methods.curators import Curator
from tasks.stages.diagnose import judging, signals
from tasks.stages.diagnose.config import StageConfig
from tasks.stages.diagnose.screen import NOT_FINITE, screen, transcript


def main(inputs: dict[str, Path], outputs: dict[str, Path], config: StageConfig, run: Run) -> None:
    """Score every example before and after training, find its neighbours, judge its quality, and choose examples to rewrite."""
    diagnose_config = config.diagnose
    curator: Curator = methods.load("curators", diagnose_config.curator)
    curator_params = methods.spec("curators", diagnose_config.curator).config.model_validate(
        config.methods[diagnose_config.curator]
    )
    device.use(config.compute)
    examples = tables.read(inputs["examples"], Example)

    model, tokenizer = _load(inputs["base"], None, config)
    encoded = partial(encode.example, tokenizer=tokenizer)
    longest = model.config.max_position_embeddings
    sequences, excluded = screen(examples, encoded, longest, diagnose_config.max_tokens, diagnose_config.seed)
    before = _losses(model, sequences, run)
    del model  # one model in memory at a time
    model, tokenizer = _load(inputs["tuned"], inputs["base"], config)
    after = _losses(model, sequences, run)
    excluded |= dict.fromkeys(signals.not_finite(before, after), NOT_FINITE)

    included = [example for example in examples if example.id not in excluded]
    tuned = TunedModel(model, tokenizer, inputs, config, run)
    neighbourhood = tuned.neighbourhood(included, curator.neighbours(curator_params))
    judged = tuned.judgements(diagnose_config.quality, included, curator)
    rows = signals.signal_rows(examples, sequences, excluded, (before, after), neighbourhood, judged, curator)
    rows, limits = curator.choose(rows, curator_params)

    tables.write(outputs["signals"], rows, Signals)
    sources = {name: inputs[name] for name in ("base", "tuned", "examples")} | {"signals": outputs["signals"]}
    quality = {
        "mode": diagnose_config.quality,
        "unreadable": signals.unreadable(judged),
        "agreement": tuned.agreement(judged, included, curator),
    }
    report = {
        "curator": diagnose_config.curator,
        "hashes": diagnosis.hashes(sources),
        "quality": quality,
        **signals.totals(rows, sequences, limits),
    }
    outputs["diagnosis"].write_text(json.dumps(report, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    run.say(summary(f"diagnose {run.item}", report))


def _load(folder: Path, base: Path | None, config: StageConfig) -> tuple[Any, Any]:
    return checkpoints.load(folder, base, **device.placement(config.compute))


def _losses(model: Any, sequences: Sequence[Encoded], run: Run) -> dict[str, float]:
    return signals.per_token(scoring.losses(model, sequences, partial(run.track, unit="pack")))


@dataclass(frozen=True)
class TunedModel:
    """The model that was trained on the examples, with what it takes to query it."""

    model: Any
    tokenizer: Any
    inputs: Mapping[str, Path]
    config: StageConfig
    run: Run

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
            return embedding.pooled(self.model, self.tokenizer(texts)["input_ids"], track)
        embedder, compute = self.inputs["embedder"], self.config.compute
        embedders.check(embedder, "diagnose.encoder: embedder", "set encoder: tuned")
        if not embedding.is_encoder(embedder):
            return embedders.embed(embedder, texts)
        return embedding.Encoder(embedder, **device.placement(compute)).vectors(texts, track)

    def judgements(self, mode: str, examples: Sequence[Example], curator: Curator) -> judging.Judgements:
        """Return the model's scores of the examples in this mode of `diagnose.quality`."""
        if mode == "none" or not examples:
            return {}
        if mode == "generate":
            return judging.in_words(examples, curator, self._fits, self._write)
        odds = partial(readout.log_odds, self.model, track=self._track("row"))
        return judging.by_odds(examples, curator, self.tokenizer, self._longest, odds)

    def agreement(
        self, judged: judging.Judgements, examples: Sequence[Example], curator: Curator
    ) -> dict[str, Any] | None:
        """Return how far judging by odds and by generation agree on `compare` examples; None if that is not set."""
        config = self.config.diagnose
        if config.quality != "readout" or not config.compare:
            return None
        return signals.agreement(judged, self.judgements("generate", examples[: config.compare], curator), curator)

    @property
    def _longest(self) -> int:
        return int(self.model.config.max_position_embeddings)

    def _fits(self, prompt: Sequence[Message]) -> bool:
        """Return True if a prompt and its answer fit into the model's context."""
        ids = self.tokenizer(render_prompt(prompt, self.tokenizer), add_special_tokens=False)["input_ids"]
        return len(ids) + self.config.diagnose.judging.max_new_tokens <= self._longest

    def _write(self, prompts: Sequence[Sequence[Message]], keys: Sequence[str]) -> list[str]:
        config, folders = self.config.diagnose, self.inputs
        write = writer.of_model(folders["tuned"], config.judging, self.config.compute, self.run, folders["base"])
        return [answer.text for answer in write(prompts, [f"{config.seed} {key}" for key in keys])]

    def _track(self, unit: str) -> Callable[[Iterable[Any]], Iterable[Any]]:
        return partial(self.run.track, unit=unit)


def summary(label: str, diagnosis: Mapping[str, Any]) -> str:
    """Return the two lines that the stage prints."""
    sets = ", ".join(f"{counts['chosen']} of {counts['found']} {name}" for name, counts in diagnosis["sets"].items())
    left_out = ", ".join(f"{count} {reason}" for reason, count in diagnosis["excluded"].items())
    return (
        f"{label}: {diagnosis['looked_at']} of {diagnosis['examples']} examples looked at; to mend: {sets or 'nothing'}\n"
        f"excluded: {left_out or 'nothing'}"
    )
