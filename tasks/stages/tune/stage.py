"""Stage `tune`: train one composition of methods on a round's examples.

reads   models/pretrained/, data/rounds/<round>/{examples,faults}.parquet, data/ingested/{valid,train_documents}.parquet
writes  models/tuned/<round>/ (the adapter or the full model, ratchet.json, training.json if it trained)
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, get_args

from tasks.core.records import Corpus
from tasks.core.sequences import Encoded
from tasks.core.stage import Run
from tasks.engine import encode, tokenized
from tasks.engine.training import compose, job, start
from tasks.engine.training.telemetry import VALIDATION
from tasks.engine.training.train import TrainData
from tasks.io import tables
from tasks.io.weights import checkpoints
from tasks.stages.tune.config import Mixture, StageConfig, TuneConfig
from tasks.stages.tune.mixture import mix


def main(inputs: dict[str, Path], outputs: dict[str, Path], config: StageConfig, run: Run) -> None:
    """Train, and write the model with its training and validation losses; or pass the pretrained model through."""
    tune, label = config.tune, f"tune {run.item}"
    if tune.max_tokens == 0:
        checkpoints.pass_through(inputs["base"], outputs["model"])
        return
    parts = compose.read(tune, config.methods)
    adapter = start.folder_of(tune.start, inputs["base"], parts.adapter) if tune.start else None
    model, tokenizer = job.load(inputs["base"], parts, config.compute)
    encoder = encode.ExampleEncoder(tokenizer, tune.pack_tokens, tune.train_on)
    table = parts.objective.spec.table
    of_table = tables.stream(inputs[table.name], table.row) if table else ()
    by_objective = replace(encoder, objective=parts.objective, rows_of_table=of_table)
    sequences, figures = tokenized.stored_examples(
        inputs["examples"], inputs["base"], by_objective, run, label, inputs[table.name] if table else None
    )
    valid = tokenized.first_examples(inputs["valid"], encoder, tune.valid_tokens)
    judges = replace(encoder, objective=parts.objective)  # without a table: its rows are of examples that train
    judged = (
        tokenized.first_examples(inputs["valid"], judges, tune.valid_tokens) if parts.objective.method.reward else []
    )
    if not sequences:
        raise ValueError(
            f"{inputs['examples']} holds no example of at most tune.pack_tokens={tune.pack_tokens} tokens. "
            "With tune.max_tokens: 0 the pretrained model would pass through as the round's."
        )
    probe = _probe(sequences, inputs, tokenizer, tune)
    mixture: dict[str, Any] = {}
    if tune.mixture != Mixture():
        sequences, parts_of_domains = mix(sequences, tune.mixture)
        for domain, part in parts_of_domains.items():
            run.say(f"{label}: {domain}: {part.passes:.2f} times an epoch, {part.share:.0%} of its tokens")
            mixture[domain] = asdict(part)
    course = job.execute(
        model,
        tokenizer,
        TrainData(sequences, {VALIDATION: valid}, probe, judged, adapter),
        parts=parts,
        config=tune,
        compute=config.compute,
        run=run,
        output=outputs["model"],
        facts={"sources": figures, **({"mixture": mixture} if mixture else {})},
        card={
            "settings": config.model_dump(mode="json"),
            "parent": checkpoints.read_card(inputs["base"]).get("weights"),
        },
    )
    if not course:
        run.say(f"{label}: trained, and there was nothing to validate on")
    for points in course.values():
        (_, before), (tokens, after) = points[0], points[-1]
        run.say(f"{label}: validation loss {before:.4f} → {after:.4f} nats/token after {tokens:,} tokens")


def _probe(examples: Sequence[Encoded], inputs: Mapping[str, Path], tokenizer: Any, tune: TuneConfig) -> list[Encoded]:
    """Return the sequences that methods look at. Raises ValueError where the corpus that is named has none."""
    corpus, tokens = tune.probe.corpus, tune.probe.tokens
    if corpus == "examples" or not tokens:
        return encode.take(examples, tokens)
    encoder = encode.DocumentEncoder(tokenizer, tune.pack_tokens)
    probe = tokenized.first_documents(inputs["documents"], encoder, get_args(Corpus), tokens)[corpus]
    if not probe:
        raise ValueError(
            f"{inputs['documents']} holds no {corpus} text for the probe. Name its sources in ingest.corpora.{corpus}, or set "
            "tune.probe.corpus: examples."
        )
    return probe
