"""Stage `refine`: what becomes of the examples that the diagnosis of a round chose (Middo).

reads   data/rounds/<prev>/examples.parquet, data/rounds/<turn>/{signals.parquet,diagnosis.json}, data/decisions.jsonl,
        models/pretrained/, models/tuned/<prev>/, models/embedder/, data/ingested/
writes  data/rounds/<turn>/{examples,lineage}.parquet, data/rounds/<turn>/refinement.json
"""

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks.core.contamination import sides
from tasks.core.records import Decision, Document, Example, Lineage, Signals
from tasks.core.stage import Run
from tasks.core.writing import Decoding, Write
from tasks.io import checkpoints, decisions, diagnosis, embedders, sandbox, tables
from tasks.io.sources import gym
from tasks.stages.refine import count
from tasks.stages.refine.accept import Gate
from tasks.stages.refine.params import Endpoint, Local, Rules, Settings
from tasks.stages.refine.propose import Generator, jobs
from tasks.stages.refine.refine import Refiner

EVALUATION = ("valid", "test", "gate", "benchmark")
TEXTS = ("valid_documents", "test_documents", "gate_documents")


def main(inputs: dict[str, Path], outputs: dict[str, Path], settings: Settings, run: Run) -> None:
    """Ask for a rewrite of what was chosen, take what holds, and write the next round's examples and the book of it all."""
    params = settings.refine
    diagnosis.check(inputs["diagnosis"], inputs)
    examples, signals = tables.read(inputs["examples"], Example), tables.read(inputs["signals"], Signals)
    decided = decisions.read(inputs["decisions"])
    asked = jobs(examples, signals, one_each=params.keep_scale == "exact")
    kept, lineage, heeded = examples, list[Lineage](), set[str]()
    if asked or any(example.id in decided for example in examples):
        refiner = _refiner(inputs, examples, decided, settings, run)
        refiner.decide(examples)
        refiner.work(asked)
        kept = refiner.merged(examples, signals, params.keep_scale)
        lineage, heeded = refiner.lineage, refiner.heeded
    found = count.summary(examples, kept, asked, lineage, len(decided.keys() - heeded))
    tables.write(outputs["examples"], kept, Example)
    tables.write(outputs["lineage"], lineage, Lineage)
    outputs["refinement"].write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    run.note(proposals=found["proposals"]["made"], proposals_accepted=found["proposals"]["accepted"])
    run.say(count.in_words(f"refine {run.item}", found))


def _refiner(
    inputs: dict[str, Path], examples: Sequence[Example], decided: dict[str, Decision], settings: Settings, run: Run
) -> Refiner:
    accept = settings.refine.accept
    level = sandbox.probe()
    run.note(sandbox=str(level))
    gate = Gate(
        accept,
        examples,
        _evaluation(inputs["ingested"]),
        _plain(inputs["base"]),
        sandbox.run if level.number >= 2 else None,
        lambda example: gym.score(example.tests, example.response) if example.tests else 1.0,
        partial(_embed, inputs["embedder"]) if accept.likeness is not None else None,
        _judge(settings, run),
    )
    return Refiner(_generator(inputs, settings, run), gate, decided, 1 + max(example.round for example in examples))


def _generator(inputs: dict[str, Path], settings: Settings, run: Run) -> Generator:
    """Who writes."""
    source, seed = settings.refine.generator, settings.refine.seed
    if isinstance(source, Rules):
        from tasks.stages.refine.rewrite import Rewriter

        return Rewriter(seed, source.tries, sandbox.outputs)
    from tasks.engine import writer
    from tasks.stages.refine.ask import Writer

    if isinstance(source, Endpoint):
        return Writer(
            source.server.model, source.asks, source.tries, seed, writer.of_server(source.server, source, run)
        )
    return Writer(str(source.model), source.asks, source.tries, seed, _local(source, inputs, settings, run))


def _local(source: Local, inputs: dict[str, Path], settings: Settings, run: Run) -> Write:
    from tasks.engine import writer

    places = {"tuned": (inputs["tuned"], inputs["base"]), "pretrained": (inputs["base"], None)}
    folder, parent = places.get(str(source.model), (Path(source.model), None))
    return writer.of_model(folder, source, settings.compute, run, parent)


def _judge(settings: Settings, run: Run) -> Write | None:
    if (judge := settings.refine.accept.judge) is None:
        return None
    from tasks.engine import writer

    return writer.of_server(judge.server, Decoding(temperature=0.1, top_p=1.0, max_new_tokens=16), run)


def _embed(folder: Path, texts: Sequence[str]) -> NDArray[np.float32]:
    embedders.check(folder, "refine.accept.likeness", "set likeness to null")
    return embedders.embed(folder, texts)


def _evaluation(folder: Path) -> list[str]:
    """Every text that models are evaluated by."""
    examples = [example for name in EVALUATION for example in tables.read(folder / f"{name}.parquet", Example)]
    documents = [document for name in TEXTS for document in tables.read(folder / f"{name}.parquet", Document)]
    return [*sides(examples), *(document.text for document in documents)]


def _plain(folder: Path) -> Callable[[Example], bool]:
    """Whether an example spells none of the model's control tokens."""
    from tasks.engine import encode

    tokenizer = checkpoints.load_tokenizer(folder)
    return lambda example: encode.is_plain(example.messages, tokenizer)
