"""Record a flow in MLflow: a parent run that describes the outcome, and a `cached` child for every stage that did not have to run."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from flows.execution import run_summary
from tasks import configuration, runner
from tasks.io import provenance
from tasks.io.runs import tracking


@contextmanager
def recorded(
    flow_run: str | None = None, title: str | None = None, command: str = "ratchet run"
) -> Iterator[tracking.Recorder]:
    """Record a flow, or another command that starts several runs, as a parent run in MLflow.

    Without a title the run is named by its profile, until `record_outcomes` gives it a longer name. It ends as FINISHED, FAILED, or KILLED
    if it was interrupted.
    """
    settings = {} if title else run_summary.settings_tags(configuration.load())
    tags = tracking.source(command) | settings | ({"prefect.flow_run_id": flow_run} if flow_run else {})
    recorder = tracking.Recorder(title or settings["profile"], tags=tags)
    status: tracking.Status = "KILLED"
    try:
        yield recorder
        status = "FINISHED"
    except Exception:  # KeyboardInterrupt and SystemExit are not caught, and leave KILLED
        status = "FAILED"
        raise
    finally:
        recorder.end(status, wait=True)


def record_outcomes(flow: tracking.Recorder, outcomes: Mapping[str, str]) -> None:
    """Record the outcome of each stage, and the candidate's figures if anything ran or was restored and the report is up to date.

    `outcomes` maps a stage to `ran`, `restored`, `unchanged`, `failed` or `not begun`. A flow in which nothing ran is tagged
    `ratchet.ran = nothing` and has no figures, as they would be those of an earlier run.
    """
    record_cached(flow, [stage for stage, outcome in outcomes.items() if outcome in ("restored", "unchanged")])
    figures = run_summary.newly_measured(outcomes)
    flow.rename(run_summary.title(run_summary.profile_name(), figures.candidate if figures else None, outcomes))
    flow.describe(run_summary.description(outcomes, figures))
    flow.tags(ratchet__ran=", ".join(stage for stage, outcome in outcomes.items() if outcome == "ran") or "nothing")
    is_ingested = outcomes.get("ingest", "failed") not in ("failed", "not begun")
    dataset = runner.dvc_hashes([Path("data/ingested")]) if is_ingested else {}
    if dataset:
        flow.datasets(dataset)
    if figures:
        flow.tags(candidate=figures.candidate, verdict=figures.verdict)
        flow.model(figures.candidate, figures.hash, figures.metrics, dataset)
        for path in run_summary.artifacts():
            flow.artifact(path, path.parent.relative_to(run_summary.REPORT.parents[1]).as_posix())


def record_cached(flow: tracking.Recorder, stages: Iterable[str]) -> None:
    """Record a child of zero length for each stage that DVC skipped or restored, with a pointer to the run that made its outputs."""
    stages = list(stages)
    keys, source = stage_keys(stages), tracking.source("ratchet run")
    for stage in stages:
        tags = source | {"dvc.stage": stage, "ratchet.cached": "true"}
        run = tracking.Recorder(f"{stage} · cached", parent=flow.id, tags=tags)
        if stage in keys:
            run.made_by(stage, keys[stage])
        run.end("FINISHED")


def stage_keys(stages: list[str]) -> dict[str, str]:
    """Return the runner's key of each stage that it knows; dvc.yaml may hold other stages."""
    known = set(configuration.stage_names())
    parts = {stage: stage.partition("@") for stage in stages}
    items = {stage: (name, item or None) for stage, (name, _, item) in parts.items() if name in known}
    if not items:
        return {}
    config = configuration.load()
    keys = {stage: configuration.key(name, item, config) for stage, (name, item) in items.items()}
    provenance.save_digests()
    return keys
