"""Continued pretraining on documents of the domain, with replay of general ones."""

from pathlib import Path
from typing import get_args

from tasks.core.records import Corpus
from tasks.core.stage import Run
from tasks.engine import encode, tokenized
from tasks.engine.training import compose, job
from tasks.engine.training.train import TrainData
from tasks.io.weights import checkpoints
from tasks.stages.pretrain.config import StageConfig
from tasks.stages.pretrain.mix import set_aside, with_replay

CORPORA: tuple[Corpus, ...] = get_args(Corpus)


def train(inputs: dict[str, Path], output: Path, config: StageConfig, run: Run) -> None:
    """Train the base model on the domain's documents, and write the full model with its losses on both corpora."""
    pretrain = config.pretrain
    parts = compose.read(pretrain, config.methods)
    model, tokenizer = job.load(inputs["base"], parts, config.compute)
    encoder = encode.DocumentEncoder(tokenizer, pretrain.pack_tokens)
    pieces, figures = tokenized.stored_documents(inputs["train"], inputs["base"], encoder, run)
    train = {corpus: pieces.choose(pieces.facts.domains.places_of(corpus)) for corpus in CORPORA}
    valid = tokenized.first_documents(inputs["valid"], encoder, CORPORA, pretrain.valid_tokens)
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
    course = job.execute(
        model,
        tokenizer,
        TrainData(sequences, valid, probe),
        parts=parts,
        config=pretrain,
        compute=config.compute,
        run=run,
        output=output,
        standalone=True,
        facts={"sources": figures},
        card={
            "settings": config.model_dump(mode="json"),
            "parent": checkpoints.read_card(inputs["base"]).get("weights"),
        },
    )
    for name in (name for name in valid if name not in course):
        run.say(f"pretrain: trained, and there was no {name} text to validate on")
    for name, points in course.items():
        (_, before), (tokens, after) = points[0], points[-1]
        run.say(f"pretrain: {name} loss {before:.4f} → {after:.4f} nats/token after {tokens:,} tokens")
