"""The graph of dvc.yaml as a Prefect flow: `python -m flows.pipeline [STAGE…]`.

DVC decides whether a stage runs, Prefect when and in what order, MLflow remembers.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from prefect import flow, runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.states import Failed
from prefect.task_runners import ThreadPoolTaskRunner

from flows import briefing, budget, graph, ledger, reporting, repro, turn
from flows.reporting import Outcome
from tasks import settings
from tasks.core import environment
from tasks.io import progress
from tasks.io.process import explain

PACE_S = 0.1


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
def run_stage(
    step: graph.Step, runner: repro.StageRunner, queue: budget.Budget, upstream: list[Outcome], parent: str
) -> Outcome | State[Any]:
    """Bring one stage up to date. DVC is asked unless the plan and the stages before say that nothing can have changed."""
    stage = step.stage
    if step.state == "unchanged" and all(before.state != "ran" for before in upstream):
        queue.done(stage)
        return Outcome(stage, "unchanged", 0.0)
    env = {environment.PARENT_RUN: parent, environment.FLOW_RUN: str(runtime.flow_run.id)}
    with queue.share(stage) as gpus:
        env |= {"CUDA_VISIBLE_DEVICES": ",".join(gpus)} if gpus else {}
        start = time.monotonic()
        progress.say(f"{stage}: {'; '.join(step.why) or 'a stage before it ran'}")
        try:
            outcome = Outcome(stage, runner.reproduce(stage, env), time.monotonic() - start)
        except repro.Busy as busy:
            progress.say(f"{busy} Trying again.")
            raise
        except (RuntimeError, OSError) as error:
            return Failed(message=explain(error))
        progress.say(f"{stage}: {outcome.state} in {outcome.seconds:.1f} s")
        queue.done(stage)  # the last act: what reads from a stage that fails after it would be waited for
    return outcome


@flow(
    name="pipeline",
    # Waiting costs a thread, work a share of the machine. Every stage has one, however many there are: without it, the stage whose
    # turn it is could not take its share. Threads are made when there are tasks for them.
    task_runner=ThreadPoolTaskRunner[Any](max_workers=10_000),  # type: ignore[arg-type]
    persist_result=False,
    validate_parameters=True,
)
def pipeline(stages: list[str] | None = None) -> dict[str, str]:
    """Bring `stages` and what they need (all where none is named) up to date. Returns what became of each."""
    outcomes: list[Outcome] = []
    with turn.taken():
        steps = briefing.prepare(stages or [])
        reporting.show_plan(steps)
        try:
            with ledger.parent(str(runtime.flow_run.id)) as run:
                try:
                    with repro.StageRunner() as runner:
                        outcomes, problems = _run(steps, runner, run.id)
                finally:
                    briefing.mend()
                    graph.tidy()
                graph.relink([outcome.stage for outcome in outcomes if outcome.state == "ran"])
                ledger.record_cached(run, [one.stage for one in outcomes if one.state in ("restored", "unchanged")])
                if problems:
                    raise RuntimeError("\n".join(problems))
        finally:
            if outcomes:
                reporting.show_outcomes(outcomes, steps, run.id)
        briefing.show_summary()
    return {outcome.stage: outcome.state for outcome in outcomes}


def _run(steps: Sequence[graph.Step], runner: repro.StageRunner, parent: str) -> tuple[list[Outcome], list[str]]:
    """All steps as tasks, each after those it reads from: what became of them, and what the failed ones say."""
    futures: dict[str, PrefectFuture[Any]] = {}
    there = budget.machine()
    needs = budget.needs([step.stage for step in steps], settings.load(), there)
    queue = budget.Budget(there, {step.stage: step.upstream for step in steps}, needs)
    for step in steps:
        before: list[Any] = [futures[name] for name in step.upstream]  # Prefect hands over their results
        futures[step.stage] = run_stage.submit(step, runner, queue, before, parent)
    _await(futures.values(), reporting.Progress(steps).step)
    for future in futures.values():
        future.wait()
    outcomes = [_outcome(stage, future) for stage, future in futures.items()]
    return outcomes, [futures[one.stage].state.message or "" for one in outcomes if one.state == "failed"]


def _outcome(stage: str, future: PrefectFuture[Any]) -> Outcome:
    """What became of a stage. One that reads from a failed one does not begin: Prefect calls it not ready."""
    if future.state.is_completed():
        outcome: Outcome = future.result()
        return outcome
    return Outcome(stage, "not begun" if future.state.is_pending() else "failed", 0.0)


def _await(futures: Iterable[PrefectFuture[Any]], step: Callable[[], None]) -> None:
    """Return when all are done; `step` is called for each. Sleeps rather than waits: Ctrl-C inside a wait on a lock was seen to
    come late or to break it."""
    open_ids = {future.task_run_id for future in futures}
    left = len(open_ids)
    for future in futures:
        future.add_done_callback(lambda done: open_ids.discard(done.task_run_id))
    while left:
        for _ in range(left - len(open_ids)):
            step()
            left -= 1
        time.sleep(PACE_S)


if __name__ == "__main__":
    import sys

    from flows.commands import main

    main(["run", *sys.argv[1:]])
