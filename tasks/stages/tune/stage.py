"""Stage `tune`: train one composition of methods on a round's examples.

reads   models/pretrained/, data/rounds/<round>/{examples,faults}.parquet, data/ingested/{valid,train_documents}.parquet
writes  models/tuned/<round>/ (the adapter or the full model, ratchet.json, training.json if it trained; for a bank, a folder for each adapter)
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np

from tasks.core.records import GENERAL, Corpus, Example
from tasks.core.sequences import Encoded
from tasks.core.stage import Run
from tasks.engine import bank_training, context, encode, tokenized
from tasks.engine.inference.prompt_encoding import prompt_ids
from tasks.engine.sequences import Sequences
from tasks.engine.training import compose, job, start
from tasks.engine.training.compose import Composition
from tasks.engine.training.telemetry import VALIDATION
from tasks.engine.training.train import TrainData
from tasks.io import tables
from tasks.io.weights import banks, checkpoints
from tasks.methods.objectives import WHOLE_ANSWERS
from tasks.stages.tune import bank
from tasks.stages.tune.config import Mixture, StageConfig, TuneConfig
from tasks.stages.tune.mixture import mix, with_replay

REPLAYED = 8
"""A general text is cut into pieces of one pack divided by this number, so that each pack has some general text. A step's loss is the mean
over its trained tokens: a pack of general text alone would weigh as much as a pack of answers."""


def main(inputs: dict[str, Path], outputs: dict[str, Path], config: StageConfig, run: Run) -> None:
    """Train, and write the model with its training and validation losses, or a bank of models; or pass the pretrained model through."""
    if config.tune.max_tokens == 0:
        checkpoints.pass_through(inputs["base"], outputs["model"])
        return
    parts = compose.read(config.tune, config.methods)
    if config.tune.bank == "none":
        _train(inputs, outputs["model"], run, config=config, parts=parts)
    else:
        bank.train(inputs, outputs["model"], config, parts, run, partial(_train, config=config, parts=parts))


def _train(inputs: Mapping[str, Path], output: Path, run: Run, *, config: StageConfig, parts: Composition) -> None:
    """Train one model, and write it."""
    tune, label, in_bank = config.tune, f"tune {run.item}", config.tune.bank != "none"
    domains = start.bank_beside(inputs["base"], parts.adapter)
    adapter = start.folder_of(tune.start, inputs["base"], parts.adapter) if tune.start else None
    model, tokenizer = job.load(inputs["base"], parts, config.compute)
    if in_bank:
        described = bank_training.spread(tables.read(inputs["examples"], Example))
        centroid_2LH = bank_training.centroid(
            model, [prompt_ids(row.prompt, tokenizer, row.tools) for row in described]
        )
    encoder = encode.ExampleEncoder(tokenizer, tune.pack_tokens, tune.train_on, context=context.context(model))
    table = parts.objective.spec.table
    of_table = tables.stream(inputs[table.name], table.row) if table else ()
    by_objective = replace(encoder, objective=parts.objective, rows_of_table=of_table)
    sequences, figures = tokenized.stored_examples(
        inputs["examples"], inputs["base"], by_objective, run, label, inputs[table.name] if table else None
    )
    valid = tokenized.first_examples(inputs["valid"], encoder, tune.valid_tokens)
    judges = replace(encoder, objective=parts.objective)  # without a table: its rows belong to training examples
    judged = (
        tokenized.first_examples(inputs["valid"], judges, tune.valid_tokens) if parts.objective.method.reward else []
    )
    if not sequences:
        raise ValueError(
            f"{inputs['examples']} holds no example of at most tune.pack_tokens={tune.pack_tokens} tokens. "
            "With tune.max_tokens: 0 the pretrained model would pass through as the round's."
        )
    for rows in (sequences, valid, judged):
        context.check(model, rows, "tune.pack_tokens")
    cut = partial(context.cut, model)
    probe = _probe(sequences, inputs, encode.DocumentEncoder(tokenizer, cut(tune.pack_tokens)), tune)
    mixture: dict[str, Any] = {}
    if tune.mixture != Mixture():
        sequences, parts_of_domains = mix(sequences, tune.mixture)
        for domain, part in parts_of_domains.items():
            run.say(f"{label}: {domain}: {part.passes:.2f} times an epoch, {part.share:.0%} of its tokens")
            mixture[domain] = asdict(part)
    if tune.replay:
        pieces = encode.DocumentEncoder(tokenizer, cut(max(tune.pack_tokens // REPLAYED, 2)))
        general = _general(inputs, pieces, parts, tune, run)
        sequences, part = with_replay(sequences, general, tune.replay)
        run.say(f"{label}: {GENERAL} text: {part.passes:.2f} times an epoch, {part.share:.0%} of its tokens")
        mixture[GENERAL] = asdict(part)
    of_bank = {"validation_tokens": bank_training.validation_tokens({VALIDATION: valid})} if in_bank else {}
    course = job.execute(
        model,
        tokenizer,
        TrainData(sequences, {VALIDATION: valid}, probe, judged, adapter, domains),
        parts=parts,
        config=tune,
        compute=config.compute,
        run=run,
        base=inputs["base"],
        output=output,
        facts={"sources": figures, **({"mixture": mixture} if mixture else {}), **of_bank},
        settings=config.model_dump(mode="json"),
    )
    if in_bank:
        np.save(output / banks.CENTROID, centroid_2LH)
    if not course:
        run.say(f"{label}: trained, and there was nothing to validate on")
    for points in course.values():
        (_, before), (tokens, after) = points[0], points[-1]
        run.say(f"{label}: validation loss {before:.4f} → {after:.4f} nats/token after {tokens:,} tokens")


def _general(
    inputs: Mapping[str, Path], encoder: encode.DocumentEncoder, parts: Composition, tune: TuneConfig, run: Run
) -> Sequences:
    """Return pieces of general texts for replay. Raises ValueError if there are none, and if the objective cannot train on texts."""
    if parts.objective.spec.weighs == WHOLE_ANSWERS:
        raise ValueError(
            f"tune.replay: objective {parts.objective.name!r} learns from whole answers, and a general text has none. "
            "Set tune.replay to 0, or take objective cross_entropy."
        )
    pieces, _ = tokenized.stored_documents(inputs["documents"], inputs["base"], encoder, run)
    general = pieces.choose(pieces.facts.domains.places_of(GENERAL))
    if not general:
        raise ValueError(
            f"{inputs['documents']} holds no general text, which tune.replay={tune.replay:g} draws from. Name its sources in "
            "ingest.corpora.general, or set tune.replay to 0."
        )
    return general


def _probe(
    examples: Sequence[Encoded], inputs: Mapping[str, Path], encoder: encode.DocumentEncoder, tune: TuneConfig
) -> list[Encoded]:
    """Return the sequences that methods look at before the training. Raises ValueError if the named corpus has none."""
    corpus, tokens = tune.probe.corpus, tune.probe.tokens
    if corpus == "examples" or not tokens:
        return encode.take(examples, tokens)
    probe = tokenized.first_documents(inputs["documents"], encoder, get_args(Corpus), tokens)[corpus]
    if not probe:
        raise ValueError(
            f"{inputs['documents']} holds no {corpus} text for the probe. Name its sources in ingest.corpora.{corpus}, or set "
            "tune.probe.corpus: examples."
        )
    return probe
