"""Stage `refine`: rewrite or extend the examples that a diagnosis chose (Middo), or add new tasks of the kinds at which the model failed.

reads   data/rounds/<prev>/examples.parquet, data/rounds/<turn>/{signals.parquet,probes.parquet,diagnosis.json},
        data/review_decisions.jsonl, models/pretrained/, models/tuned/<prev>/, models/embedder/, data/ingested/
writes  data/rounds/<turn>/{examples,lineage}.parquet, data/rounds/<turn>/refinement.json
"""

import json
from collections.abc import Callable, Mapping, Sequence, Set
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.core.records import Decision, Document, Example, Lineage, Probe, Signals
from tasks.core.stage import Run
from tasks.core.text.contamination import sides
from tasks.core.text.writing import Decoding, Write
from tasks.io import diagnosis, review_decisions, sandbox, tables, verifiers
from tasks.io.sources import gym
from tasks.io.weights import checkpoints, embedders, models
from tasks.stages.refine import summary
from tasks.stages.refine.acceptance.acceptor import Acceptor
from tasks.stages.refine.config import Endpoint, Local, Rules, StageConfig, Tasks
from tasks.stages.refine.example_text import prompt_key
from tasks.stages.refine.new_tasks import NewTasks, OwnAnswers
from tasks.stages.refine.proposals import Generator, Operator, create_jobs
from tasks.stages.refine.refiner import Refiner

EVALUATION_EXAMPLES = ("valid", "test", "gate", "benchmark")
EVALUATION_DOCUMENTS = ("valid_documents", "test_documents", "gate_documents")
TEXTS_ALONE = (
    "none of the chosen examples is a program with tests, and rules rewrite nothing else: for other answers name a model in params.yaml, "
    "refine.generator: {from: local}, or {from: endpoint, server: …}"
)


def main(inputs: dict[str, Path], outputs: dict[str, Path], config: StageConfig, run: Run) -> None:
    """Propose changes to the round, accept or reject them, and write the next round's examples and their lineage."""
    diagnosed = diagnosis.check(inputs["diagnosis"], inputs)
    examples = tables.read(inputs["examples"], Example)
    decided = review_decisions.read(inputs["decisions"])
    decision_of = {name: decision for name, decision in decided.items() if decision.decision != "flag"}
    flagged = (decided.keys() - decision_of.keys()) & {example.id for example in examples}
    kinds = _kinds(diagnosed, config)
    turn = (
        _rewritten(inputs, examples, decision_of, flagged, config, run)
        if kinds is None
        else _extended(inputs, examples, kinds, decision_of, config, run)
    )
    unmatched = len(decided.keys() - flagged - turn.matched)
    record = summary.refinement_record(examples, turn.examples, turn.chosen, turn.lineage, len(flagged), unmatched)
    tables.write(outputs["examples"], turn.examples, Example)
    tables.write(outputs["lineage"], turn.lineage, Lineage)
    outputs["refinement"].write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    run.note(proposals=record["proposals"]["made"], proposals_accepted=record["proposals"]["accepted"])
    run.say(summary.in_words(f"refine {run.item}", record))


class Refined(NamedTuple):
    """The next round, with the changes that led to it."""

    examples: Sequence[Example]
    chosen: Sequence[Operator]
    """The operator of each intended change."""
    lineage: Sequence[Lineage]
    matched: set[str]
    """The ids of review decisions that are about this round."""


def _kinds(diagnosed: Mapping[str, Any], config: StageConfig) -> Mapping[str, Any] | None:
    """Return the diagnosis of each kind of generated tasks; None if the diagnosis looked at examples.

    Raises ValueError if the generator does not fit such a diagnosis.
    """
    kinds: Mapping[str, Any] | None = diagnosed.get("kinds")
    if isinstance(config.refine.generator, Tasks) != (kinds is not None):
        raise ValueError(
            f"refine.generator: {config.refine.generator.from_} does not go with diagnose.curator: {diagnosed['curator']}. "
            "`failures` needs {from: tasks}, and only it."
        )
    return kinds


def _rewritten(
    inputs: dict[str, Path],
    examples: list[Example],
    decision_of: dict[str, Decision],
    flagged: Set[str],
    config: StageConfig,
    run: Run,
) -> Refined:
    """Return the round with rewrites of the chosen and the flagged examples."""
    signals, keep_scale = tables.read(inputs["signals"], Signals), config.refine.keep_scale
    jobs = create_jobs(examples, signals, flagged, one_each=keep_scale == "exact")
    chosen = [job.operator for job in jobs]
    if not jobs and not any(example.id in decision_of for example in examples):
        return Refined(examples, chosen, [], set())
    refiner = _refiner(inputs, examples, decision_of, config, run)
    refiner.flagged = flagged
    refiner.apply_decisions(examples)
    refiner.propose_and_accept(jobs)
    by_rules = isinstance(config.refine.generator, Rules)
    if by_rules and jobs and not any(job.example.tests and job.example.tests.run_programs for job in jobs):
        run.say(TEXTS_ALONE)
    refined = refiner.next_round(examples, signals, keep_scale)
    return Refined(refined, chosen, refiner.lineage, refiner.matched_decisions)


def _extended(
    inputs: dict[str, Path],
    examples: list[Example],
    diagnosed: Mapping[str, Any],
    decision_of: dict[str, Decision],
    config: StageConfig,
    run: Run,
) -> Refined:
    """Return the round with new tasks added, in the numbers for each kind that the diagnosis names."""
    source, seed = config.refine.generator, config.refine.seed
    assert isinstance(source, Tasks)
    refiner = _refiner(inputs, examples, decision_of, config, run)
    refiner.apply_decisions(examples)
    own = None
    if source.answers == "own" and any(counts["add"] for counts in diagnosed.values()):
        from tasks.engine.inference import writer

        write = writer.of_model(inputs["tuned"], source, config.compute, run, inputs["base"])
        own = OwnAnswers("tuned", source.samples, seed, write, refiner.acceptor.score_answer)
    held_out = _evaluation_examples(inputs["ingested"])
    probed = [" ".join(probe.question.split()) for probe in tables.read(inputs["probes"], Probe)]
    new = NewTasks(
        gym.read_kinds(inputs["ingested"] / "generated.json"),
        diagnosed,
        refiner.acceptor,
        {*map(gym.prompt_key, (*examples, *held_out)), *probed},
        seed,
        refiner.round,
        source.tries,
        own,
    )
    added = new.make()
    chosen: list[Operator] = ["add"] * sum(counts["add"] for counts in diagnosed.values())
    refined = [*refiner.next_round(examples, [], config.refine.keep_scale), *added]
    return Refined(refined, chosen, [*refiner.lineage, *new.lineage], refiner.matched_decisions)


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
    held_out = _evaluation_examples(inputs["ingested"])
    acceptor = Acceptor(
        accept,
        examples,
        [*sides(held_out), *_evaluation_documents(inputs["ingested"])],
        _plainness_check(inputs["base"]),
        sandbox.run if level.number >= 2 else None,
        lambda example: verifiers.acceptance(example.tests, example.response) if example.tests else 1.0,
        partial(_embed, inputs["embedder"]) if accept.likeness is not None else None,
        _judge(config, run),
        set(map(prompt_key, held_out)),
    )
    return Refiner(
        _generator(inputs, config, run), acceptor, decision_of, 1 + max(example.round for example in examples)
    )


def _generator(inputs: dict[str, Path], config: StageConfig, run: Run) -> Generator | None:
    """Return the generator of rewrites that params.yaml names; None if it names the generator of new tasks."""
    source, seed = config.refine.generator, config.refine.seed
    if isinstance(source, Tasks):
        return None
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

    return writer.of_server(
        judge.server, Decoding(temperature=0.1, top_p=1.0, max_new_tokens=judge.server.max_new_tokens), run
    )


def _embed(folder: Path, texts: Sequence[str]) -> NDArray[np.float32]:
    embedders.check(folder, "refine.accept.likeness", "set likeness to null")
    return embedders.embed(folder, texts)


def _evaluation_documents(folder: Path) -> list[str]:
    """Read the text of every document on which models are evaluated."""
    return [
        document.text for name in EVALUATION_DOCUMENTS for document in tables.read(folder / f"{name}.parquet", Document)
    ]


def _evaluation_examples(folder: Path) -> list[Example]:
    """Read every example on which models are evaluated."""
    return [example for name in EVALUATION_EXAMPLES for example in tables.read(folder / f"{name}.parquet", Example)]


def _plainness_check(folder: Path) -> Callable[[Example], bool]:
    """Return a function that returns True for an example without control tokens of the model."""
    from tasks.engine import encode

    tokenizer = checkpoints.load_tokenizer(folder)
    return lambda example: encode.is_plain(example.messages, tokenizer)
