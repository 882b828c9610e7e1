"""Stage `refine`: rewrite or extend the examples that the diagnosis of a round chose (Middo).

reads   data/rounds/<prev>/examples.parquet, data/rounds/<turn>/{signals.parquet,diagnosis.json}, data/review_decisions.jsonl,
        models/pretrained/, models/tuned/<prev>/, models/embedder/, data/ingested/
writes  data/rounds/<turn>/{examples,lineage}.parquet, data/rounds/<turn>/refinement.json
"""

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks.core.records import Decision, Document, Example, Lineage, Signals
from tasks.core.stage import Run
from tasks.core.text.contamination import sides
from tasks.core.text.writing import Decoding, Write
from tasks.io import diagnosis, review_decisions, sandbox, tables, verifiers
from tasks.io.weights import checkpoints, embedders, models
from tasks.stages.refine import summary
from tasks.stages.refine.acceptance.acceptor import Acceptor
from tasks.stages.refine.config import Endpoint, Local, Rules, StageConfig
from tasks.stages.refine.proposals import Generator, create_jobs
from tasks.stages.refine.refiner import Refiner

EVALUATION_EXAMPLES = ("valid", "test", "gate", "benchmark")
EVALUATION_DOCUMENTS = ("valid_documents", "test_documents", "gate_documents")


def main(inputs: dict[str, Path], outputs: dict[str, Path], config: StageConfig, run: Run) -> None:
    """Propose rewrites of the chosen examples, accept or reject them, and write the next round's examples and their lineage."""
    refine_config = config.refine
    diagnosis.check(inputs["diagnosis"], inputs)
    examples, signals = tables.read(inputs["examples"], Example), tables.read(inputs["signals"], Signals)
    decision_of = review_decisions.read(inputs["decisions"])
    jobs = create_jobs(examples, signals, one_each=refine_config.keep_scale == "exact")
    refined, lineage, matched = examples, list[Lineage](), set[str]()
    if jobs or any(example.id in decision_of for example in examples):
        refiner = _refiner(inputs, examples, decision_of, config, run)
        refiner.apply_decisions(examples)
        refiner.propose_and_accept(jobs)
        refined = refiner.next_round(examples, signals, refine_config.keep_scale)
        lineage, matched = refiner.lineage, refiner.matched_decisions
    record = summary.refinement_record(examples, refined, jobs, lineage, len(decision_of.keys() - matched))
    tables.write(outputs["examples"], refined, Example)
    tables.write(outputs["lineage"], lineage, Lineage)
    outputs["refinement"].write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    run.note(proposals=record["proposals"]["made"], proposals_accepted=record["proposals"]["accepted"])
    run.say(summary.in_words(f"refine {run.item}", record))


def _refiner(
    inputs: dict[str, Path],
    examples: Sequence[Example],
    decision_of: dict[str, Decision],
    config: StageConfig,
    run: Run,
) -> Refiner:
    accept = config.refine.accept
    level = sandbox.probe()
    run.note(sandbox=str(level))
    acceptor = Acceptor(
        accept,
        examples,
        _evaluation_texts(inputs["ingested"]),
        _plainness_check(inputs["base"]),
        sandbox.run if level.number >= 2 else None,
        lambda example: verifiers.acceptance(example.tests, example.response) if example.tests else 1.0,
        partial(_embed, inputs["embedder"]) if accept.likeness is not None else None,
        _judge(config, run),
    )
    return Refiner(
        _generator(inputs, config, run), acceptor, decision_of, 1 + max(example.round for example in examples)
    )


def _generator(inputs: dict[str, Path], config: StageConfig, run: Run) -> Generator:
    """Return the generator of proposals that params.yaml names."""
    source, seed = config.refine.generator, config.refine.seed
    if isinstance(source, Rules):
        from tasks.stages.refine.rules.generator import RuleGenerator

        return RuleGenerator(seed, source.tries, sandbox.outputs)
    from tasks.engine.inference import writer
    from tasks.stages.refine.prompting.generator import PromptedGenerator

    if isinstance(source, Endpoint):
        name, write = source.server.model, writer.of_server(source.server, source, run)
    else:
        name, write = str(source.model), _local_model(source, inputs, config, run)
    return PromptedGenerator(name, source.asks, source.tries, seed, write)


def _local_model(source: Local, inputs: dict[str, Path], config: StageConfig, run: Run) -> Write:
    from tasks.engine.inference import writer

    places = {"tuned": (inputs["tuned"], inputs["base"]), "pretrained": (inputs["base"], None)}
    folder, parent = places.get(str(source.model), (Path(source.model), None))
    return writer.of_model(folder, source, config.compute, run, parent, models.load)


def _judge(config: StageConfig, run: Run) -> Write | None:
    if (judge := config.refine.accept.judge) is None:
        return None
    from tasks.engine.inference import writer

    return writer.of_server(judge.server, Decoding(temperature=0.1, top_p=1.0, max_new_tokens=16), run)


def _embed(folder: Path, texts: Sequence[str]) -> NDArray[np.float32]:
    embedders.check(folder, "refine.accept.likeness", "set likeness to null")
    return embedders.embed(folder, texts)


def _evaluation_texts(folder: Path) -> list[str]:
    """Read every text that models are evaluated by."""
    examples = [example for name in EVALUATION_EXAMPLES for example in tables.read(folder / f"{name}.parquet", Example)]
    documents = [
        document for name in EVALUATION_DOCUMENTS for document in tables.read(folder / f"{name}.parquet", Document)
    ]
    return [*sides(examples), *(document.text for document in documents)]


def _plainness_check(folder: Path) -> Callable[[Example], bool]:
    """Return a check that is True for an example that spells none of the model's control tokens."""
    from tasks.engine import encode

    tokenizer = checkpoints.load_tokenizer(folder)
    return lambda example: encode.is_plain(example.messages, tokenizer)
