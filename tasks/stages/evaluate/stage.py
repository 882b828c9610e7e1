"""Stage `evaluate`: measure one model by loss, programs that run, answers that are checked, preferences, and facts written into it.

reads   the model, its base model, data/ingested/{test,test_documents,gate,gate_documents}.parquet, data/review_items.jsonl; with a
        decoder that steers another model, the folder of that model
writes  data/metrics/<group>/<model>.json, data/results/<group>/<model>.parquet (every item, for paired comparisons);
        data/gate/<model>.parquet (the same of the gate set, which no report shows)
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from tasks import methods
from tasks.core.answers.choice import Choice
from tasks.core.answers.judge import Judge
from tasks.core.records import Document, Example, Message, Result
from tasks.core.sequences import Encoded
from tasks.core.stage import Run
from tasks.core.text.writing import Server
from tasks.core.weights.row import listens
from tasks.engine import device, encode
from tasks.engine.forward import token_losses
from tasks.engine.inference import answer_cache, generation, scoring, writer
from tasks.engine.inference.generation import Response, Sampling
from tasks.engine.inference.served import ServedModel
from tasks.io import pinned, provenance, review_decisions, sandbox, tables, verifiers
from tasks.io.generators import completions
from tasks.io.generators.answers import Answers
from tasks.io.weights import checkpoints, models
from tasks.stages.evaluate import (
    facts,
    grade,
    likelihood,
    preferences,
    standard_benchmarks,
    subsample,
    summarise,
    wrong_items,
)
from tasks.stages.evaluate.config import EvaluateConfig, StageConfig
from tasks.stages.evaluate.judging import DECODING, Judging
from tasks.stages.evaluate.problem_sets import ProblemSet, problem_sets
from tasks.stages.evaluate.solve import solve
from tasks.stages.evaluate.strength_cache import strengthen
from tasks.stages.evaluate.summarise import Measured, Planned

Pick = Callable[[Iterable[Encoded], int], list[Encoded]]
"""Chooses the sequences to score, given the largest number of tokens."""

GATE = "gate_set"
"""The part of a model's figures that tells the strength of the gate set's tests."""
PROBES = 4
"""Prompts by which a served model is compared with the measured one."""


def main(inputs: dict[str, Path], outputs: dict[str, Path], config: StageConfig, run: Run) -> None:
    """Score, generate answers, grade them, and write every item and the summary."""
    evaluate_config, wrong = config.evaluate, review_decisions.read_those(inputs["decisions"], "reject")
    model, tokenizer, evaluated = _loaded(inputs, config, run)
    pick = partial(subsample.shuffled, seed=evaluate_config.seed)
    measured = _measure(inputs["test"], inputs["documents"], evaluated, tokenizer, evaluate_config, run, pick)
    if evaluate_config.facts:
        measured.answers.extend(_facts(inputs, evaluated, config, run))
    counted, gate_results = measured.without(wrong), list[Result]()
    summary = summarise.summarise(counted.results, counted.planned, evaluate_config)
    metrics = {
        **summary,
        **_standard(evaluated, evaluate_config),
        "parameters": model.num_parameters(),
        "trainable": checkpoints.trainable(inputs["model"]),
        "bytes": sum(file.stat().st_size for file in checkpoints.weights(inputs["model"])),
        "settings": _conditions(config, measured.level),
    }
    tables.write(outputs["results"], counted.results, Result)
    if "gate" in outputs:  # a trial of a comparison has none
        gate_results, strengths = _measure_gate(inputs, evaluated, tokenizer, evaluate_config, run)
        tables.write(outputs["gate"], gate_results, Result)
        metrics |= {GATE: {"strength": strengths}} if strengths else {}
    if wrong:
        metrics["left_out"] = wrong_items.record(wrong, measured.results, gate_results)
        run.say(f"evaluate {run.item}: {wrong_items.in_words(metrics['left_out'])}")
    outputs["metrics"].write_text(json.dumps(metrics, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    losses = {measure: figures["loss"] for measure, figures in summary.items() if "loss" in figures}
    run.log(
        None,
        **{f"{measure}_loss": loss for measure, loss in losses.items()},
        **summarise.first_measures(summary, counted.answers),
    )
    run.say(f"evaluate {run.item}: " + ", ".join(f"{name} {loss:.3f}" for name, loss in losses.items()) + " nats/token")


def examine(inputs: dict[str, Path], output: Path, config: StageConfig, run: Run) -> None:
    """Measure a model on the gate set alone, as `main` does after the other data."""
    _, tokenizer, evaluated = _loaded(inputs, config, run)
    results, _ = _measure_gate(inputs, evaluated, tokenizer, config.evaluate, run)
    tables.write(output, results, Result)


@dataclass(frozen=True)
class _Evaluated:
    """The model that is scored and generates: the measured model, or another one that it steers."""

    model: Any
    tokenizer: Any
    steering: generation.Steering | None = None
    identity: Any = None
    """Everything that its greedy answers depend on beside prompts and settings; None if none are kept."""
    served: ServedModel | None = None
    """The measured model on a server that generates in place of this machine."""


def _measure(
    test: Path, documents: Path, evaluated: _Evaluated, tokenizer: Any, config: EvaluateConfig, run: Run, pick: Pick
) -> Measured:
    """Score the examples and documents of one set that `pick` chooses, and have its problems solved."""
    examples = tables.read(test, Example)
    level, planned = _plan(problem_sets(examples, tokenizer, config), run)
    if config.strength:
        strengths = run.cache / "strength"
        planned = [
            (problems, not_run) if not_run else _with_reason(strengthen(problems, config.strength, strengths), level)
            for problems, not_run in planned
        ]
    probes = [problem.prompt for problems, not_run in planned if not not_run for problem in problems.problems][:PROBES]
    if evaluated.served and probes:
        evaluated.served.compare(probes)
    losses = [
        result
        for measure, sequences, groups in _texts(examples, tables.read(documents, Document), tokenizer, config, pick)
        for result in _score(measure, sequences, groups, evaluated, run)
    ]
    answers = [row for problems, not_run in planned if not not_run for row in _solve(problems, evaluated, config, run)]
    if pairs := preferences.preference_pairs(examples, tokenizer, config, run):
        answers += preferences.score(pairs, partial(_losses, evaluated=evaluated, run=run))
    return Measured(losses, answers, planned, level)


def _measure_gate(
    inputs: dict[str, Path], evaluated: _Evaluated, tokenizer: Any, config: EvaluateConfig, run: Run
) -> tuple[list[Result], dict[str, Any]]:
    """Measure the gate set: as much of it as of the test set, and nearly the same items as the set grows.

    Returns the results, and the strength of the tests, empty if it is not measured. No examples of ours are added to these tests: the
    candidate's results are compared with those of models that were promoted long before.
    """
    as_they_are = config.strength and config.strength.model_copy(update={"inputs": 0})
    config = config.model_copy(
        update=dict.fromkeys(("pass_items", "answer_items", "preference_items"), config.gate_items)
        | {"human_eval": 0, "samples": 0, "strength": as_they_are}
    )
    sets = inputs["gate"], inputs["gate_documents"]
    measured = _measure(*sets, evaluated, tokenizer, config, run, subsample.by_id)
    strengths = {item: each for problems, _ in measured.planned for item, each in problems.strengths.items()}
    if config.strength is None or not strengths:
        return measured.results, {}
    on_strong = summarise.on_strong_tests(measured.results, strengths, config.strength)
    return [*measured.results, *on_strong], summarise.strength_record(strengths, config.strength)


def _loaded(inputs: dict[str, Path], config: StageConfig, run: Run) -> tuple[Any, Any, _Evaluated]:
    """Return the measured model, its tokenizer, and what is scored and generates."""
    device.use(config.compute)
    server = _server(config, run)
    # Asked before weights are read: a server may lack the model.
    described = completions.describe(server) if server else None
    model, tokenizer = _load(inputs["model"], inputs["base"], config)
    evaluated = _evaluated_model(model, tokenizer, inputs, config)
    if server:
        run.note(server=json.dumps(described, sort_keys=True))
        identity = [pinned.digest(inputs["model"]), pinned.digest(inputs["base"]), described]
        evaluated = replace(evaluated, served=ServedModel(server, model, tokenizer, identity, run))
    return model, tokenizer, evaluated


def _server(config: StageConfig, run: Run) -> Server | None:
    """Return the server that generates, if one is set, with the name of the measured model.

    Raises ValueError if the decoder needs the probabilities of all tokens, which no server gives.
    """
    server, decoder = config.evaluate.server, config.evaluate.decoder
    if server and methods.spec("decoders", decoder).helpers:
        raise ValueError(
            f"evaluate.decoder {decoder} combines the log-probabilities of several models at each token, and a server gives "
            "texts alone. Leave `evaluate.server` out."
        )
    return server and server.model_copy(update={"model": server.model.replace("{item}", run.item or "")})


def _evaluated_model(model: Any, tokenizer: Any, inputs: dict[str, Path], config: StageConfig) -> _Evaluated:
    """Return the measured model, or the model that the decoder has it steer.

    Raises ValueError if that is not the pinned one.
    """
    name = config.evaluate.decoder
    decoder = methods.spec("decoders", name)
    decoder_config = decoder.config.model_validate(config.methods[name])
    if not decoder.helpers:
        return _Evaluated(model, tokenizer, identity=_identity(inputs, config))
    main = _load(_pinned_folder(name, decoder_config), None, config)
    tuned = inputs["model"] != inputs["base"]  # an untuned model is its own antiexpert and steers nowhere
    roles = {"expert": (model, tokenizer)}
    roles["antiexpert"] = _load(inputs["base"], None, config) if tuned else roles["expert"]
    combine = partial(methods.load("decoders", name).combine, config=decoder_config)
    return _Evaluated(*main, generation.steer(main, [roles[role] for role in decoder.helpers], combine))


def _pinned_folder(name: str, values: Any) -> Path:
    """Return the folder of the steered model.

    Raises ValueError if its digest is not the one set: DVC does not watch it.
    """
    if not values.steers:
        raise ValueError(f"methods.{name}.steers names no model: write the folder of the one to steer there.")
    folder = Path(values.steers)
    checkpoints.check_folder(folder)
    pinned.check(folder, pinned.digest(folder), values.digest, f"methods.{name}.digest")
    return folder


def _identity(inputs: dict[str, Path], config: StageConfig) -> list[Any]:
    """Return everything that an answer of the model depends on beside its prompt and the settings of generation."""
    sources = provenance.closure("tasks.engine.inference.generation")
    compute = config.compute.model_dump(mode="json") | {"precision": device.precision(config.compute)}
    folders = [pinned.digest(inputs["model"]), pinned.digest(inputs["base"])]
    return [*folders, compute, provenance.machine_class(), provenance.code_digest(sources)]


def _load(folder: Path, base: Path | None, config: StageConfig) -> tuple[Any, Any]:
    return models.load(folder, base, **device.placement(config.compute))


def _texts(
    test: Sequence[Example], documents: Sequence[Document], tokenizer: Any, config: EvaluateConfig, pick: Pick
) -> Iterable[tuple[str, list[Encoded], dict[str, str]]]:
    """Yield each measure of loss that has data: its name, the sequences to score, and the group of each item.

    Raises ValueError if there are examples and none fits.
    """
    if test:
        fitting = [row for row in encode.examples(test, tokenizer, config.max_tokens) if row is not None]
        if not fitting:
            raise ValueError(
                f"evaluate.max_tokens={config.max_tokens}: none of the {len(test)} held-out examples fits."
            )
        groups = {example.id: example.group for example in test}
        yield "domain", pick(fitting, config.domain_tokens), groups
    for measure, domain in (("domain_text", "domain"), ("general", "general")):
        rows = [document for document in documents if document.domain == domain]
        if not rows:
            continue  # a corpus is a choice; the report says what could not be measured
        first = {piece.id: piece for piece in reversed(list(encode.documents(rows, tokenizer, config.max_tokens)))}
        groups = {document.id: document.group for document in rows}
        yield measure, pick(first.values(), config.text_tokens), groups


def _score(
    measure: str, sequences: list[Encoded], groups: dict[str, str], evaluated: _Evaluated, run: Run
) -> list[Result]:
    sizes = {sequence.id: sequence.size for sequence in sequences}
    rows = [
        Result(measure, loss.id, groups[loss.id], None, loss.nats, loss.tokens, sizes[loss.id], "", "")
        for loss in _losses(sequences, evaluated, run)
    ]
    return sorted(rows, key=lambda row: row.item)


def _losses(sequences: Sequence[Encoded], evaluated: _Evaluated, run: Run) -> Iterator[scoring.Loss]:
    nll = evaluated.steering.losses if evaluated.steering else token_losses
    return scoring.losses(evaluated.model, sequences, partial(run.track, unit="pack"), nll)


def _plan(sets: Sequence[ProblemSet], run: Run) -> tuple[int | None, list[Planned]]:
    """Return the level of isolation for programs, None if there are none, and the sets with the reason if one is not run."""
    level = None
    if any(problem_set.runs_programs for problem_set in sets):
        isolation = sandbox.probe()
        run.note(sandbox=str(isolation))
        level = isolation.number
    return level, [_with_reason(problem_set, level) for problem_set in sets]


def _with_reason(problem_set: ProblemSet, level: int | None) -> Planned:
    return problem_set, problem_set.reason_not_run(level)


def _respond(
    prompts: Sequence[Sequence[Message]],
    evaluated: _Evaluated,
    config: EvaluateConfig,
    run: Run,
    sampling: Sampling | None = None,
    tasks: Sequence[str] = (),
) -> list[Response]:
    """Return the answer to each prompt, from those kept of earlier runs where they are there; greedy ones without `sampling`.

    `tasks` are those of the prompts, which some adapters go by.
    """
    tasks = tasks if listens(evaluated.model) else ()
    if evaluated.served:
        return evaluated.served.respond(
            prompts, max_new_tokens=config.max_new_tokens, sampling=sampling, stop=config.stop
        )

    def generate(group: list[int]) -> list[Response]:
        return generation.respond(
            evaluated.model,
            [prompts[position] for position in group],
            evaluated.tokenizer,
            max_new_tokens=config.max_new_tokens,
            batch_size=config.batch_size,
            sampling=sampling and replace(sampling, keys=[sampling.keys[position] for position in group]),
            stop=config.stop,
            steering=evaluated.steering,
            tasks=[tasks[position] for position in group] if tasks else (),
        )

    answers = Answers(run.cache / "answers") if evaluated.identity else None
    keys = sampling.keys if sampling else [""] * len(prompts)
    how = [config.max_new_tokens, config.stop, sampling and [sampling.temperature, sampling.top_p]]
    track = partial(run.track, unit="group of answers")
    identity = [evaluated.identity, how]
    return answer_cache.respond(prompts, keys, config.batch_size, generate, answers, identity, track, tasks)


def _facts(inputs: dict[str, Path], evaluated: _Evaluated, config: StageConfig, run: Run) -> list[Result]:
    """Return the results of the facts that were written into the model; the model before that is the one it stands on."""
    assert config.evaluate.facts
    chosen, before = facts.chosen(config.evaluate.facts), evaluated
    if inputs["model"] != inputs["base"]:
        *_, before = _loaded(inputs | {"model": inputs["base"]}, config, run)
    ask = partial(_respond, config=config.evaluate, run=run)
    return facts.measure(chosen, partial(ask, evaluated=evaluated), partial(ask, evaluated=before))


def _solve(problem_set: ProblemSet, evaluated: _Evaluated, config: EvaluateConfig, run: Run) -> list[Result]:
    def write(problems: Sequence[Example], sampling: Sampling | None) -> list[Response]:
        tasks = [problem.task for problem in problems]
        return _respond([problem.prompt for problem in problems], evaluated, config, run, sampling, tasks)

    if isinstance(problem_set.check, Judge):
        assert config.judge is not None, "without a server the set is not run"
        judging = Judging(writer.of_server(config.judge, DECODING, run), config.seed)
        return solve(problem_set, config, write, judging.grade) + judging.planted
    grade_answers = partial(grade.grade, run_cases=partial(sandbox.run, minimum=2), verify=verifiers.grade)
    results = solve(problem_set, config, write, grade_answers)
    if isinstance(problem_set.check, Choice):
        losses = partial(_losses, evaluated=evaluated, run=run)
        results += likelihood.score_options(problem_set.problems, evaluated.tokenizer, losses)
    return results


def _standard(evaluated: _Evaluated, config: EvaluateConfig) -> dict[str, Any]:
    """Return the scores of standard benchmarks, if any are set.

    Raises ValueError if the decoder steers another model.
    """
    if config.harness is None:
        return {}
    if evaluated.steering:
        raise ValueError(
            f"evaluate.harness measures one model's own logits, and decoder {config.decoder} steers another's. "
            "Leave one of the two out."
        )
    return {"harness": standard_benchmarks.measure(evaluated.model, evaluated.tokenizer, config.harness, config)}


def _conditions(config: StageConfig, level: int | None) -> dict[str, Any]:
    """Return everything that a measure depends on beside the model and the data."""
    evaluate_config = config.evaluate
    unset = {name for name in ("strength", "facts") if getattr(evaluate_config, name) is None}
    settings = evaluate_config.model_dump(mode="json", exclude=unset)
    return {
        **settings,
        "padding": generation.PADDING,
        "precision": device.precision(config.compute),
        "machine": provenance.machine_class(),
        "methods": config.methods,
        "sandbox": level,
        "ends_at": [*generation.ENDS, *evaluate_config.stop],
    }
