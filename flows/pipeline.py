"""The graph of dvc.yaml as a Prefect flow: `python -m flows.pipeline [STAGE…]`.

DVC decides whether a stage runs, Prefect when and in what order, MLflow remembers.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from prefect import flow, runtime, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.states import Failed
from prefect.task_runners import ThreadPoolTaskRunner

from flows import briefing, budget, graph, ledger, repro, supervisor, workspace
from tasks.io import progress

PACE_S = 0.1


@dataclass(frozen=True)
class Outcome:
    """What became of one stage."""

    stage: str
    state: repro.State
    seconds: float


def _is_busy(_task: Any, _run: Any, state: State[Any]) -> bool:
    return isinstance(state.result(raise_on_failure=False), repro.Busy)


@task(
    task_run_name="{step.stage}",
    cache_policy=NO_CACHE,  # DVC has the only cache
    persist_result=False,
    retries=5,
    retry_delay_seconds=[1, 2, 5, 10, 30],
    retry_condition_fn=_is_busy,
)
def run_stage(step: graph.Step, queue: budget.Budget, upstream: list[Outcome], parent: str) -> Outcome | State[Any]:
    """Bring one stage up to date. DVC is asked unless the plan and the stages before say that nothing can have changed."""
    stage = step.stage
    if step.state == "unchanged" and all(before.state != "ran" for before in upstream):
        queue.done(stage)
        return Outcome(stage, "unchanged", 0.0)
    env = {"RATCHET_PARENT": parent, "RATCHET_FLOW_RUN": str(runtime.flow_run.id)}
    with queue.slot(stage):
        start = time.monotonic()
        progress.say(f"{stage}: {'; '.join(step.why) or 'a stage before it ran'}")
        try:
            outcome = Outcome(stage, repro.reproduce(stage, env), time.monotonic() - start)
            queue.done(stage)
        except repro.Busy as busy:
            progress.say(f"{busy} Trying again.")
            raise
        except RuntimeError as error:
            return Failed(message=str(error))
    progress.say(f"{stage}: {outcome.state} in {outcome.seconds:.1f} s")
    return outcome


@flow(
    name="pipeline",
    # Waiting costs a thread, work a slot of the budget.
    task_runner=ThreadPoolTaskRunner[Any](max_workers=64),  # type: ignore[arg-type]
    persist_result=False,
    validate_parameters=True,
)
def pipeline(stages: list[str] | None = None) -> dict[str, str]:
    """Bring `stages` and what they need (all where none is named) up to date. Returns what became of each."""
    if runtime.deployment.id:
        supervisor.follow_parent()
    with workspace.claimed():
        steps = briefing.prepare(stages or [])
        with ledger.parent(str(runtime.flow_run.id)) as run:
            try:
                with repro.ending_together():
                    outcomes = _run(steps, run.id)
            finally:
                briefing.mend()
                graph.tidy()
            graph.relink([outcome.stage for outcome in outcomes if outcome.state == "ran"])
            ledger.record_cached(run, [outcome.stage for outcome in outcomes if outcome.state != "ran"])
            _report(outcomes, steps, run.id)
    briefing.show_summary()
    return {outcome.stage: outcome.state for outcome in outcomes}


def _run(steps: Sequence[graph.Step], parent: str) -> list[Outcome]:
    """All steps as tasks, each after those it reads from. Raises RuntimeError that tells what failed."""
    futures: dict[str, PrefectFuture[Any]] = {}
    queue = budget.Budget(budget.jobs(), {step.stage: step.upstream for step in steps})
    for step in steps:
        before: list[Any] = [futures[name] for name in step.upstream]  # Prefect hands over their results
        futures[step.stage] = run_stage.submit(step, queue, before, parent)
    _await(futures.values())
    for future in futures.values():
        future.wait()
    failed = [future.state.message or "" for future in futures.values() if future.state.is_failed()]
    if failed:
        raise RuntimeError("\n".join(failed))
    return [future.result() for future in futures.values()]


def _await(futures: Iterable[PrefectFuture[Any]]) -> None:
    """Return when all are done. Sleeps rather than waits: Ctrl-C inside a wait on a lock was seen to come late or to break it."""
    open_ids = {future.task_run_id for future in futures}
    for future in futures:
        future.add_done_callback(lambda done: open_ids.discard(done.task_run_id))
    while open_ids:
        time.sleep(PACE_S)


def _report(outcomes: Sequence[Outcome], steps: Sequence[graph.Step], run: str) -> None:
    """The flow's table of stages, on the console and as an artifact of the flow run."""
    why = {step.stage: "; ".join(step.why) for step in steps}
    rows = [
        {"stage": o.stage, "state": o.state, "seconds": round(o.seconds, 1), "why": why[o.stage] if o.seconds else ""}
        for o in outcomes
    ]
    in_mlflow = f"What became of each stage. In MLflow: tags.`ratchet.run` = '{run}'"
    create_table_artifact(rows, key="pipeline-stages", description=in_mlflow)
    counts = [(state, sum(o.state == state for o in outcomes)) for state in ("ran", "restored", "unchanged")]
    progress.say(f"Done: {', '.join(f'{count} {state}' for state, count in counts if count)}.")


if __name__ == "__main__":
    import sys

    from flows.commands import main

    main(["run", *sys.argv[1:]])
