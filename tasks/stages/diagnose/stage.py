"""Stage `diagnose`: what the model that was trained on a round's examples makes of each of them (Middo).

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
from tasks.engine import device, embedding, encode, neighbours, readout, scoring, writer
from tasks.io import checkpoints, diagnosis, embedders, tables
from tasks.methods.curators import Curator
from tasks.stages.diagnose import gather, judge
from tasks.stages.diagnose.look import NOT_FINITE, look, transcript
from tasks.stages.diagnose.params import Settings


def main(inputs: dict[str, Path], outputs: dict[str, Path], settings: Settings, run: Run) -> None:
    """Score every example before and after the training, find its neighbours, have it judged, and choose what to mend."""
    params = settings.diagnose
    curator: Curator = methods.load("curators", params.curator)
    chosen_by = methods.spec("curators", params.curator).config.model_validate(settings.methods[params.curator])
    device.use(settings.compute)
    examples = tables.read(inputs["examples"], Example)

    model, tokenizer = _load(inputs["base"], None, settings)
    encoded = partial(encode.example, tokenizer=tokenizer)
    longest = model.config.max_position_embeddings
    sequences, excluded = look(examples, encoded, longest, params.max_tokens, params.seed)
    before = _losses(model, sequences, run)
    del model  # one model in memory at a time
    model, tokenizer = _load(inputs["tuned"], inputs["base"], settings)
    after = _losses(model, sequences, run)
    excluded |= dict.fromkeys(gather.not_finite(before, after), NOT_FINITE)

    known = [example for example in examples if example.id not in excluded]
    subject = Subject(model, tokenizer, inputs, settings, run)
    near = subject.neighbourhood(known, curator.neighbours(chosen_by))
    judged = subject.judgements(params.quality, known, curator)
    rows = gather.signals(examples, sequences, excluded, (before, after), near, judged, curator)
    rows, limits = curator.choose(rows, chosen_by)

    tables.write(outputs["signals"], rows, Signals)
    made_from = {name: inputs[name] for name in ("base", "tuned", "examples")} | {"signals": outputs["signals"]}
    quality = {
        "mode": params.quality,
        "unreadable": gather.unreadable(judged),
        "agreement": subject.agreement(judged, known, curator),
    }
    text = {
        "curator": params.curator,
        "hashes": diagnosis.hashes(made_from),
        "quality": quality,
        **gather.figures(rows, sequences, limits),
    }
    outputs["diagnosis"].write_text(json.dumps(text, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    run.say(summary(f"diagnose {run.item}", text))


def _load(folder: Path, base: Path | None, settings: Settings) -> tuple[Any, Any]:
    compute = settings.compute
    return checkpoints.load(folder, base, dtype=device.dtype(compute), device=compute.device)


def _losses(model: Any, sequences: Sequence[Encoded], run: Run) -> dict[str, float]:
    return gather.per_token(scoring.losses(model, sequences, partial(run.track, unit="pack")))


@dataclass(frozen=True)
class Subject:
    """The model that was trained on the examples, and how it is asked about them."""

    model: Any
    tokenizer: Any
    inputs: Mapping[str, Path]
    settings: Settings
    run: Run

    def neighbourhood(self, examples: Sequence[Example], k: int) -> gather.Neighbourhood:
        """Who is near whom, by their prompts alone and in plain text."""
        texts = {example.id: text for example in examples if (text := transcript(example.prompt)).strip()}
        if not texts:
            return {}
        vectors = self._vectors(list(texts.values()))
        found = neighbours.nearest(vectors, k, self.settings.diagnose.exact_up_to)
        return gather.neighbourhood(list(texts), *found)

    def _vectors(self, texts: list[str]) -> NDArray[np.float32]:
        track = self._track("row")
        if self.settings.diagnose.encoder == "tuned":
            return embedding.pooled(self.model, self.tokenizer(texts)["input_ids"], track)
        embedder, compute = self.inputs["embedder"], self.settings.compute
        embedders.check(embedder, "diagnose.encoder: embedder", "set encoder: tuned")
        if not embedding.is_encoder(embedder):
            return embedders.embed(embedder, texts)
        return embedding.Encoder(embedder, dtype=device.dtype(compute), device=compute.device).vectors(texts, track)

    def judgements(self, mode: str, examples: Sequence[Example], curator: Curator) -> judge.Judgements:
        """What the model makes of the examples, asked in this mode."""
        if mode == "none" or not examples:
            return {}
        if mode == "generate":
            return judge.in_words(examples, curator, self._fits, self._write)
        odds = partial(readout.log_odds, self.model, track=self._track("row"))
        return judge.by_odds(examples, curator, self.tokenizer, self._longest, odds)

    def agreement(
        self, judged: judge.Judgements, examples: Sequence[Example], curator: Curator
    ) -> dict[str, Any] | None:
        """How far judging by odds and in words agree, on as many examples as `compare` says; None where nobody asks."""
        params = self.settings.diagnose
        if params.quality != "readout" or not params.compare:
            return None
        return gather.agreement(judged, self.judgements("generate", examples[: params.compare], curator), curator)

    @property
    def _longest(self) -> int:
        return int(self.model.config.max_position_embeddings)

    def _fits(self, prompt: Sequence[Message]) -> bool:
        """Whether the model can read a prompt to its end and still answer."""
        ids = self.tokenizer(encode.render_prompt(prompt, self.tokenizer), add_special_tokens=False)["input_ids"]
        return len(ids) + self.settings.diagnose.judging.max_new_tokens <= self._longest

    def _write(self, prompts: Sequence[Sequence[Message]], keys: Sequence[str]) -> list[str]:
        params, folders = self.settings.diagnose, self.inputs
        write = writer.of_model(folders["tuned"], params.judging, self.settings.compute, self.run, folders["base"])
        return [answer.text for answer in write(prompts, [f"{params.seed} {key}" for key in keys])]

    def _track(self, unit: str) -> Callable[[Iterable[Any]], Iterable[Any]]:
        return partial(self.run.track, unit=unit)


def summary(label: str, found: Mapping[str, Any]) -> str:
    """What a person wants to know, in two lines."""
    sets = ", ".join(f"{counts['chosen']} of {counts['found']} {name}" for name, counts in found["sets"].items())
    left_out = ", ".join(f"{count} {reason}" for reason, count in found["excluded"].items())
    return (
        f"{label}: {found['looked_at']} of {found['examples']} examples looked at; to mend: {sets or 'nothing'}\n"
        f"excluded: {left_out or 'nothing'}"
    )
