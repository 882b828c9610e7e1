"""Run the graph of dvc.yaml as a Prefect flow: `python -m flows.pipeline [STAGE…]`.

DVC decides whether a stage runs, Prefect decides when and in what order, and MLflow keeps the record.
"""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from prefect import flow, runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.states import Failed
from prefect.task_runners import ThreadPoolTaskRunner

from flows.execution import flow_lease, flow_runs, preflight, resources, stage_runner
from flows.execution.display import artifacts, report_summary, run_names, screen
from flows.execution.display.artifacts import StageOutcome
from flows.execution.dvc import cache, forecast, lock_file
from flows.execution.scheduler import Scheduler
from tasks import configuration
from tasks.core import environment
from tasks.io.system import progress
from tasks.io.system.process import explain

PACE_S = 0.1
RETRIES = 5
"""Number of retries of a stage while another DVC process holds a lock that it needs."""


def _is_busy(_task: Any, _run: Any, state: State[Any]) -> bool:
    return isinstance(state.result(raise_on_failure=False), stage_runner.Busy)


@task(
    task_run_name="{step.stage}",
    cache_policy=NO_CACHE,  # DVC has the only cache
    persist_result=False,
    retries=RETRIES,
    retry_delay_seconds=[1, 2, 5, 10, 30],
    retry_condition_fn=_is_busy,
)
def run_stage(
    step: forecast.Step,
    runner: stage_runner.StageRunner,
    scheduler: Scheduler,
    upstream: list[StageOutcome],
    parent: str,
    view: screen.View,
) -> StageOutcome | State[Any]:
    """Bring one stage up to date. DVC is not called if the plan says unchanged and no upstream stage ran."""
    stage = step.stage
    if step.state == "unchanged" and all(before.state != "ran" for before in upstream):
        scheduler.done(stage)
        view.passed(stage)
        return StageOutcome(stage, "unchanged", 0.0)
    env = {environment.PARENT_RUN: parent, environment.FLOW_RUN: str(runtime.flow_run.id)}
    env[environment.PROGRESS_S] = os.environ.get(environment.PROGRESS_S, str(view.every_s))
    if host := scheduler.host(stage):
        env[environment.ON] = host
    with scheduler.allocation(stage) as gpus:
        env |= {"CUDA_VISIBLE_DEVICES": ",".join(gpus)} if gpus else {}
        start = time.monotonic()
        view.begun(stage, f"{f'on {host}: ' if host else ''}{step.reasons or 'a stage before it ran'}")
        try:
            outcome = StageOutcome(stage, runner.reproduce(stage, env), time.monotonic() - start)
        except (RuntimeError, OSError) as error:
            if isinstance(error, stage_runner.Busy) and runtime.task_run.run_count <= RETRIES:
                progress.say(f"{error} Trying again.")
                raise
            view.ended(stage, "failed", time.monotonic() - start)
            return Failed(message=explain(error))
        view.ended(stage, outcome.state, outcome.seconds)
        scheduler.done(stage)  # last: if a line before it raised, stages that read from this one would be waited for
    return outcome


@flow(
    name="pipeline",
    flow_run_name=run_names.pipeline,
    # A waiting stage occupies a thread, a running stage an allocation. Every stage gets a thread, however many there
    # are: otherwise waiting stages could occupy all threads, and the stage that is next could not take its allocation.
    # Threads are only created for submitted tasks.
    task_runner=ThreadPoolTaskRunner[Any](max_workers=10_000),  # type: ignore[arg-type]
    persist_result=False,
    validate_parameters=True,
)
def pipeline(stages: list[str] | None = None) -> dict[str, str]:
    """Bring `stages` and what they need (all if none is named) up to date. Returns the outcome of each."""
    outcomes: list[StageOutcome] = []
    with flow_lease.acquired():
        steps = preflight.prepare(stages or [])
        artifacts.show_plan(steps)
        try:
            with flow_runs.recorded(str(runtime.flow_run.id)) as run:
                try:
                    with screen.shown(steps) as view, stage_runner.StageRunner(view.said) as runner:
                        if _count_model_stages(steps) > 1:
                            runner.start_fork_server()
                        outcomes, problems = _run(steps, runner, run.id, view)
                finally:
                    preflight.repair_workspace()
                    lock_file.tidy()
                cache.relink([outcome.stage for outcome in outcomes if outcome.state == "ran"])
                flow_runs.record_outcomes(run, {outcome.stage: outcome.state for outcome in outcomes})
                if problems:
                    if any(outcome.stage == screen.SUMMARISED and outcome.state == "ran" for outcome in outcomes):
                        report_summary.show()
                    raise RuntimeError("\n".join(problems))
        finally:
            if outcomes:
                artifacts.show_outcomes(outcomes, steps, run.id)
        report_summary.show()
    return {outcome.stage: outcome.state for outcome in outcomes}


def _run(
    steps: Sequence[forecast.Step], runner: stage_runner.StageRunner, parent: str, view: screen.View
) -> tuple[list[StageOutcome], list[str]]:
    """Run all steps as tasks, each after the stages that it reads from. Returns their outcomes, and the messages of the failed ones."""
    futures: dict[str, PrefectFuture[Any]] = {}
    available = resources.machine()
    requests = resources.requests([step.stage for step in steps], configuration.load(), available)
    scheduler = Scheduler(available, {step.stage: step.upstream for step in steps}, requests)
    for step in steps:
        before: list[Any] = [futures[name] for name in step.upstream]  # Prefect replaces them by their results
        futures[step.stage] = run_stage.submit(step, runner, scheduler, before, parent, view)
    _await(futures.values(), artifacts.ProgressBar(steps).step)
    for future in futures.values():
        future.wait()
    outcomes = [_outcome(stage, future) for stage, future in futures.items()]
    return outcomes, [futures[outcome.stage].state.message or "" for outcome in outcomes if outcome.state == "failed"]


def _count_model_stages(steps: Sequence[forecast.Step]) -> int:
    """Return the number of stages that may run and load a model."""
    waiting = {step.stage: step.stage.partition("@")[0] for step in steps if step.state != "unchanged"}
    known = configuration.stage_names()
    return sum(
        "compute" in configuration.stage_config_type(stage).model_fields for stage in waiting.values() if stage in known
    )


def _outcome(stage: str, future: PrefectFuture[Any]) -> StageOutcome:
    """Return the outcome of a stage. A stage that reads from a failed stage does not begin: Prefect leaves it in the state NotReady."""
    if future.state.is_completed():
        outcome: StageOutcome = future.result()
        return outcome
    return StageOutcome(stage, "not begun" if future.state.is_pending() else "failed", 0.0)


def _await(futures: Iterable[PrefectFuture[Any]], step: Callable[[], None]) -> None:
    """Return when all futures are done, and call `step` for each. Sleeps instead of waiting on a lock, in which Ctrl-C came late or broke
    the lock."""
    open_ids = {future.task_run_id for future in futures}
    remaining = len(open_ids)
    for future in futures:
        future.add_done_callback(lambda done: open_ids.discard(done.task_run_id))
    while remaining:
        for _ in range(remaining - len(open_ids)):
            step()
            remaining -= 1
        time.sleep(PACE_S)


if __name__ == "__main__":
    import sys

    from flows.commands import main

    main(["run", *sys.argv[1:]])
