"""Stage `evaluate`: measure one model by loss, executed programs, checked answers, preferences, and facts written into it.

reads   the model, its base model, data/ingested/{test,test_documents,gate,gate_documents}.parquet, data/review_items.jsonl; with a
        decoder that steers another model, the folder of that model
writes  data/metrics/<group>/<model>.json, data/results/<group>/<model>.parquet (every item, for paired comparisons);
        data/gate/<model>.parquet (the same for the gate set, which no report shows)
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tasks.core.answers.choice import Choice
from tasks.core.answers.judge import Judge
from tasks.core.answers.tool_call import ToolCall
from tasks.core.answers.unit_tests import UnitTests
from tasks.core.records import CONDITIONS, Document, Example, Result
from tasks.core.sequences import Encoded
from tasks.core.stage import Run
from tasks.engine import device, encode
from tasks.engine.inference import generation, writer
from tasks.engine.inference.generation import Response, Sampling
from tasks.io import facts_file, provenance, review_decisions, sandbox, tables, verifiers
from tasks.io.system.workers import Workers
from tasks.io.weights import checkpoints
from tasks.stages.evaluate import (
    facts,
    measured_model,
    preferences,
    standard_benchmarks,
    subsample,
    summarise,
    wrong_items,
)
from tasks.stages.evaluate.checks import calls, likelihood
from tasks.stages.evaluate.checks.judging import Judging, decoding
from tasks.stages.evaluate.config import EvaluateConfig, Rules, StageConfig
from tasks.stages.evaluate.measured_model import MeasuredModel
from tasks.stages.evaluate.problem_sets import ProblemSet, problem_sets
from tasks.stages.evaluate.solve import graded, solve
from tasks.stages.evaluate.strength import LIMITS
from tasks.stages.evaluate.strength_cache import strengthen
from tasks.stages.evaluate.suites.grading import Suites
from tasks.stages.evaluate.summarise import Measured, Planned

Pick = Callable[[Iterable[Encoded], int], list[Encoded]]
"""Chooses the sequences to score, given the largest number of tokens."""

GATE = "gate_set"
"""The part of a model's figures that holds the strength of the gate set's tests."""
OF_NO_ITEM = {
    "domain_tokens", "text_tokens", "pass_items", "gate_items", "answer_items", "preference_items", "human_eval", "samples", "temperature",
    "top_p", "ks", "batch_size", "server", "facts", "harness", "confidence",
}  # fmt: skip
"""Settings that change which items of the gate set are measured, or the speed, but not the figure of any item."""
ISOLATED = 2
"""The level of isolation that programs written by models need."""
PROBES = 4
"""Number of prompts on which a served model is compared with the measured one."""


def main(inputs: dict[str, Path], outputs: dict[str, Path], config: StageConfig, run: Run) -> None:
    """Score, generate answers, grade them, and write every item and the summary."""
    with Workers() as workers:
        _evaluate(inputs, outputs, config, run, workers)


def _evaluate(
    inputs: dict[str, Path], outputs: dict[str, Path], config: StageConfig, run: Run, workers: Workers
) -> None:
    evaluate_config, wrong = config.evaluate, review_decisions.read_those(inputs["decisions"], "reject")
    model, tokenizer, evaluated = measured_model.load(inputs, config, run, workers)
    pick = partial(subsample.shuffled, seed=evaluate_config.seed)
    measured = _measure(inputs["test"], inputs["documents"], evaluated, tokenizer, evaluate_config, run, pick)
    if evaluate_config.facts:
        measured.answers.extend(_facts(inputs, evaluated, config, run, workers))
    counted, gate_results = measured.without(wrong), list[Result]()
    summary = summarise.summarise(counted.results, counted.planned, evaluate_config)
    metrics = {
        **summary,
        **_standard(evaluated, evaluate_config),
        "parameters": model.num_parameters(),
        "trainable": checkpoints.trainable(inputs["model"]),
        "bytes": sum(file.stat().st_size for file in checkpoints.weights(inputs["model"])),
        "settings": _conditions(config, measured.level),
        **({"bank": evaluated.routed.record()} if evaluated.routed else {}),
    }
    tables.write(outputs["results"], counted.results, Result)
    if "gate" in outputs:  # a trial of a comparison has none
        alone = replace(evaluated, served=None)
        gate_results, strengths = _measure_gate(inputs, alone, tokenizer, _of_gate_set(evaluate_config), run)
        tables.write(outputs["gate"], gate_results, Result, _gate_facts(config, inputs["gate"]))
        metrics |= {GATE: {"strength": strengths}} if strengths else {}
    if wrong:
        metrics["left_out"] = wrong_items.record(wrong, measured.results, gate_results)
        run.say(f"evaluate {run.item}: {wrong_items.in_words(metrics['left_out'])}")
    outputs["metrics"].write_text(json.dumps(metrics, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    losses = {measure: figures["loss"] for measure, figures in summary.items() if "loss" in figures}
    run.log(
        None,
        **{f"{measure}_loss": loss for measure, loss in losses.items() if loss is not None},
        **summarise.first_measures(summary, counted.answers),
    )
    told = (f"{name} {'no number' if loss is None else f'{loss:.3f}'}" for name, loss in losses.items())
    run.say(f"evaluate {run.item}: {', '.join(told)} nats/token")


def examine(inputs: dict[str, Path], output: Path, config: StageConfig, run: Run, conditions: str) -> None:
    """Measure a model on the gate set alone, in the same way as `main`. `conditions` is the digest of the settings by which the results to
    compare with were measured.

    Raises ValueError if the present settings differ from those.
    """
    facts = _gate_facts(config, inputs["gate"])
    if facts[CONDITIONS] != conditions:
        raise ValueError(
            "The settings of `evaluate`, the checks, or the precision differ from those with which the candidate was measured. `ratchet run` measures "
            "it again; if `compute.precision: auto` chose another precision here, name one first."
        )
    config = config.model_copy(update={"evaluate": _of_gate_set(config.evaluate)})
    with Workers() as workers:
        _, tokenizer, evaluated = measured_model.load(inputs, config, run, workers)
        results, _ = _measure_gate(inputs, evaluated, tokenizer, config.evaluate, run)
    tables.write(output, results, Result, facts)


def _measure(
    test: Path, documents: Path, evaluated: MeasuredModel, tokenizer: Any, config: EvaluateConfig, run: Run, pick: Pick
) -> Measured:
    """Score the examples and documents that `pick` chooses from one set, and let the model solve its problems."""
    examples = tables.read(test, Example)
    level, planned = _plan(problem_sets(examples, tokenizer, config), run)
    if config.strength:
        strengths = run.cache / "strength"
        planned = [
            (problems, not_run) if not_run else _with_reason(strengthen(problems, config.strength, strengths), level)
            for problems, not_run in planned
        ]
    probes = [problem for problems, not_run in planned if not not_run for problem in problems.problems][:PROBES]
    if evaluated.served and probes:
        evaluated.served.compare([probe.prompt for probe in probes], [probe.tools for probe in probes])
    pairs = preferences.preference_pairs(examples, tokenizer, config, run)
    evaluated.check(preferences.sides(pairs), "evaluate.max_tokens")
    losses = [
        result
        for measure, sequences, known in _texts(
            examples, tables.read(documents, Document), tokenizer, config, run, pick
        )
        for result in _score(measure, sequences, known, evaluated, run)
    ]
    answers = [row for problems, not_run in planned if not not_run for row in _solve(problems, evaluated, config, run)]
    if pairs:
        answers += preferences.score(pairs, partial(evaluated.losses, run=run))
    return Measured(losses, answers, planned, level)


def _measure_gate(
    inputs: dict[str, Path], evaluated: MeasuredModel, tokenizer: Any, config: EvaluateConfig, run: Run
) -> tuple[list[Result], dict[str, Any]]:
    """Measure the gate set under its own settings, from `_of_gate_set`, with the token limits of the test set.

    As the set grows, nearly the same items are chosen. Returns the results, and the strength of the tests, which is empty if it is not
    measured.
    """
    sets = inputs["gate"], inputs["gate_documents"]
    measured = _measure(*sets, evaluated, tokenizer, config, run, subsample.by_id)
    strengths = {item: each for problems, _ in measured.planned for item, each in problems.strengths.items()}
    if config.strength is None or not strengths:
        return measured.results, {}
    on_strong = summarise.on_strong_tests(measured.results, strengths, config.strength)
    return [*measured.results, *on_strong], summarise.strength_record(strengths, config.strength)


def _of_gate_set(config: EvaluateConfig) -> EvaluateConfig:
    """Return the settings under which the gate set is measured.

    The candidate is compared with models that were promoted long before. So no generated examples are added to the tests, and no server
    writes the answers, since no server holds those models.
    """
    as_they_are = config.strength and config.strength.model_copy(update={"inputs": 0})
    return config.model_copy(
        update=dict.fromkeys(("pass_items", "answer_items", "preference_items"), config.gate_items)
        | {"human_eval": 0, "samples": 0, "server": None, "strength": as_they_are}
    )


def _texts(
    test: Sequence[Example], documents: Sequence[Document], tokenizer: Any, config: EvaluateConfig, run: Run, pick: Pick
) -> Iterable[tuple[str, list[Encoded], dict[str, tuple[str, str]]]]:
    """Yield each loss that has data: its name, the sequences to score, and the group and task of each item.

    Examples with an undesirable answer are ignored, since training should not lower their loss. The number of examples that are left out
    because they do not fit is printed. Raises ValueError if there are examples and none fits.
    """
    if examples := [example for example in test if example.desirable is not False]:
        fitting = [row for row in encode.examples(examples, tokenizer, config.max_tokens) if row is not None]
        if not fitting:
            raise ValueError(
                f"evaluate.max_tokens={config.max_tokens}: none of the {len(examples)} held-out examples fits."
            )
        if left_out := len(examples) - len(fitting):
            run.say(
                f"evaluate {run.item}: the loss leaves out {left_out} of {len(examples)} held-out examples, which are longer than "
                f"evaluate.max_tokens={config.max_tokens}, or spell a control token"
            )
        known = {example.id: (example.group, example.task) for example in examples}
        yield "domain", pick(fitting, config.domain_tokens), known
    for measure, corpus in (("domain_text", "domain"), ("general", "general")):
        rows = [document for document in documents if document.corpus == corpus]
        if not rows:
            continue  # a corpus is optional; the report says what could not be measured
        first = {piece.id: piece for piece in reversed(list(encode.documents(rows, tokenizer, config.max_tokens)))}
        yield (
            measure,
            pick(first.values(), config.text_tokens),
            {document.id: (document.group, "") for document in rows},
        )


def _score(
    measure: str, sequences: list[Encoded], known: dict[str, tuple[str, str]], evaluated: MeasuredModel, run: Run
) -> list[Result]:
    evaluated.check(sequences, "evaluate.max_tokens")
    sizes = {sequence.id: sequence.size for sequence in sequences}
    rows = [
        Result(measure, loss.id, group, None, loss.nats, loss.tokens, sizes[loss.id], "", "", task=task)
        for loss in evaluated.losses(sequences, run)
        for group, task in [known[loss.id]]
    ]
    return sorted(rows, key=lambda row: row.item)


def _plan(sets: Sequence[ProblemSet], run: Run) -> tuple[int | None, list[Planned]]:
    """Return the sandbox's level of isolation, None if no answer is a program, and each set with the reason if it is not run."""
    level = None
    if any(problem_set.runs_programs for problem_set in sets):
        isolation = sandbox.probe()
        run.note(sandbox=str(isolation))
        level = isolation.number
    return level, [_with_reason(problem_set, level) for problem_set in sets]


def _with_reason(problem_set: ProblemSet, level: int | None) -> Planned:
    tests = (problem.tests for problem in problem_set.problems if problem.tests)
    return problem_set, problem_set.reason_not_run(level) or verifiers.reason_not_judged(tests)


def _facts(
    inputs: dict[str, Path], evaluated: MeasuredModel, config: StageConfig, run: Run, workers: Workers
) -> list[Result]:
    """Return the results of the facts that were written into the model. The model before the edit is its base."""
    pinned_file = config.evaluate.facts
    assert pinned_file
    chosen, before = facts_file.chosen(pinned_file.path, pinned_file.digest, pinned_file.items), evaluated
    if inputs["model"] != inputs["base"]:
        *_, before = measured_model.load(inputs | {"model": inputs["base"]}, config, run, workers)
    ask, ask_before = (partial(one.respond, config=config.evaluate, run=run) for one in (evaluated, before))
    return facts.measure(chosen, ask, ask_before)


def _solve(problem_set: ProblemSet, evaluated: MeasuredModel, config: EvaluateConfig, run: Run) -> list[Result]:
    constrained = config.constrained and isinstance(problem_set.check, ToolCall)
    if constrained:
        calls.check_single(problem_set.problems)

    def write(problems: Sequence[Example], sampling: Sampling | None) -> list[Response]:
        responses: dict[int, Response] = {}
        asked = list(map(problem_set.asks_program, problems))
        for programs in sorted(set(asked)):  # a set may have answers of both kinds
            places = [place for place, is_program in enumerate(asked) if is_program == programs]
            some = [problems[place] for place in places]
            tasks, tools = [problem.task for problem in some], [problem.tools for problem in some]
            prompts, drawn = [problem.prompt for problem in some], sampling and sampling.at(places)
            written = evaluated.respond(prompts, config, run, drawn, tasks, tools, constrained, programs)
            responses |= zip(places, written, strict=True)
        return [responses[place] for place in range(len(problems))]

    if isinstance(problem_set.check, Judge):
        assert config.judge is not None, "without a judge the set is not run"
        judge = config.judge
        judging = Judging(
            judge if isinstance(judge, Rules) else writer.of_server(judge, decoding(judge), run), config.seed
        )
        return solve(problem_set, config, write, judging.grade) + judging.planted
    if isinstance(problem_set.check, UnitTests):
        assert config.tests is not None, "without settings the set is not run"
        suites = Suites(config.tests, partial(sandbox.run, limits=LIMITS), partial(sandbox.outputs, limits=LIMITS))
        return solve(problem_set, config, write, suites.grade) + suites.measured
    grade_answers = partial(graded, run_cases=partial(sandbox.run, minimum=ISOLATED), verify=verifiers.grade)
    results = solve(problem_set, config, write, grade_answers)
    if isinstance(problem_set.check, Choice):
        losses = partial(evaluated.losses, run=run)
        results += likelihood.score_options(problem_set.problems, evaluated.tokenizer, losses)
    if isinstance(problem_set.check, ToolCall):
        results += calls.measure(problem_set.problems, results, *_tools(config, run))
    return results


def _tools(config: EvaluateConfig, run: Run) -> tuple[str, calls.RunCases | None]:
    """Return the program of the tools, empty if none are set, and the function that runs it, None without tools or a sandbox."""
    if config.tools is None:
        return "", None
    program = calls.source(config.tools)
    if sandbox.probe().number < ISOLATED:
        run.say(
            f"evaluate {run.item}: no sandbox on this machine, so no call runs (`ratchet doctor` says what is needed)"
        )
        return program, None
    return program, partial(sandbox.run, minimum=ISOLATED)


def _standard(evaluated: MeasuredModel, config: EvaluateConfig) -> dict[str, Any]:
    """Return the scores of standard benchmarks, if any are set.

    Raises ValueError if the decoder steers another model, or a bank is measured.
    """
    if config.harness is None:
        return {}
    if evaluated.steering or evaluated.routed:
        other = f"decoder {config.decoder} steers another's" if evaluated.steering else "a bank has several"
        raise ValueError(f"evaluate.harness measures one model's own logits, and {other}. Leave one of the two out.")
    return {"harness": standard_benchmarks.measure(evaluated.model, evaluated.tokenizer, config.harness, config)}


def _gate_facts(config: StageConfig, gate: Path) -> dict[str, str]:
    """Return a digest of the settings on which the figures of a gate set's item depend. Models are compared only if theirs are equal.

    The digest includes the options of the checks, because a changed option leaves the examples the same. More examples under the same checks
    do not change the digest.
    """
    tests = [example.tests for example in tables.read(gate, Example)] if config.evaluate.gate_items else []
    checks = sorted({one.code for one in tests if one and one.kind == "check"})
    settings = {
        **({"checks": checks} if checks else {}),
        **_of_gate_set(config.evaluate).model_dump(mode="json", exclude=OF_NO_ITEM, exclude_none=True),
        "precision": device.precision(config.compute),
        "methods": config.methods,
    }
    return {CONDITIONS: provenance.facts_digest({name: json.dumps(value) for name, value in settings.items()})}


def _conditions(config: StageConfig, level: int | None) -> dict[str, Any]:
    """Return everything that a measure depends on besides the model and the data."""
    evaluate_config = config.evaluate
    unset = {name for name in ("strength", "facts", "tests") if getattr(evaluate_config, name) is None}
    settings = evaluate_config.model_dump(mode="json", exclude=unset)
    return {
        **settings,
        "padding": generation.PADDING,
        "precision": device.precision(config.compute),
        "machine": provenance.machine_class(),
        "methods": {name: section for name, section in config.methods.items() if name != "none"},
        "sandbox": level,
        "ends_at": [*generation.ENDS, *evaluate_config.stop],
    }
