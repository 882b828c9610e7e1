"""Continued pretraining on documents of the domain, with replay of general ones."""

from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import numpy as np

from tasks.core.records import GENERAL, Corpus
from tasks.core.stage import Run
from tasks.engine import bank_training, context, encode, tokenized
from tasks.engine.training import job
from tasks.engine.training.compose import Composition
from tasks.engine.training.train import TrainData
from tasks.io.weights import banks
from tasks.stages.pretrain.config import StageConfig
from tasks.stages.pretrain.mix import set_aside, with_replay

CORPORA: tuple[Corpus, ...] = get_args(Corpus)


def train(inputs: Mapping[str, Path], output: Path, run: Run, *, config: StageConfig, parts: Composition) -> None:
    """Train the base model on the domain's documents, and write the full model, or the adapter of a bank, with its losses on both corpora."""
    pretrain, label = config.pretrain, bank_training.label("pretrain", run)
    in_bank = pretrain.bank != "none"
    if parts.objective.spec.needs:  # a text has nothing that such a loss compares, so the training would learn nothing
        raise ValueError(
            f"pretrain.objective: {parts.objective.name!r} learns from answers, and texts have none. Set cross_entropy here, and "
            f"tune.objective: {parts.objective.name}."
        )
    model, tokenizer = job.load(inputs["base"], parts, config.compute)
    encoder = encode.DocumentEncoder(tokenizer, pretrain.pack_tokens)
    pieces, figures = tokenized.stored_documents(inputs["train"], inputs["base"], encoder, run)
    of_general = pieces.facts.domains.places_of(GENERAL)
    of_domain = np.setdiff1d(np.arange(len(pieces)), of_general)
    train = {"domain": pieces.choose(of_domain), GENERAL: pieces.choose(of_general)}
    valid = tokenized.first_documents(inputs["valid"], encoder, CORPORA, pretrain.valid_tokens)
    for rows in (pieces, *valid.values()):
        context.check(model, rows, "pretrain.pack_tokens")
    if not train["domain"]:
        raise ValueError(f"{inputs['train']} holds no domain text. Name its sources in ingest.corpora.domain.")
    in_probe = {pretrain.probe.corpus: pretrain.probe.tokens}
    if not train["general"] and (pretrain.replay or in_probe.get("general")):
        raise ValueError(
            f"{inputs['train']} holds no general text, which replay and the probe are drawn from. Name its sources in "
            "ingest.corpora.general, or set pretrain.replay and pretrain.probe.tokens to 0."
        )
    probe, replayed = set_aside(train["general"], in_probe.get("general", 0))
    probe += encode.take(train["domain"], in_probe.get("domain", 0))
    sequences = with_replay(train["domain"], replayed, pretrain.replay, pretrain.max_tokens, pretrain.seed)
    of_bank = {"validation_tokens": bank_training.validation_tokens(valid)} if in_bank else {}
    if in_bank:
        centroid_2LH = bank_training.centroid(model, [piece.ids for piece in bank_training.spread(train["domain"])])
    course = job.execute(
        model,
        tokenizer,
        TrainData(sequences, valid, probe),
        parts=parts,
        config=pretrain,
        compute=config.compute,
        run=run,
        base=inputs["base"],
        output=output,
        standalone=not in_bank,
        facts={"sources": figures, **of_bank},
        settings=config.model_dump(mode="json"),
    )
    if in_bank:
        np.save(output / banks.CENTROID, centroid_2LH)
    for name in (name for name in valid if name not in course):
        run.say(f"{label}: trained, and there was no {name} text to validate on")
    for name, points in course.items():
        (_, before), (tokens, after) = points[0], points[-1]
        run.say(f"{label}: {name} loss {before:.4f} → {after:.4f} nats/token after {tokens:,} tokens")
