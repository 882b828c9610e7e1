"""MLflow's record of a flow: a parent run, and a `cached` child for every stage that did not have to run."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from tasks import configuration
from tasks.io import provenance
from tasks.io.runs import tracking
from tasks.io.system import git


@contextmanager
def recorded(flow_run: str | None = None, title: str = "pipeline") -> Iterator[tracking.Recorder]:
    """Record a flow, or another command that starts several runs, as a parent run in MLflow.

    The run ends as FINISHED, FAILED, or KILLED if it was interrupted.
    """
    commit = git.commit()
    tags = {"git.commit": commit} | ({"prefect.flow_run_id": flow_run} if flow_run else {})
    recorder = tracking.Recorder(f"{title} · {commit[:8]}", tags=tags)
    status: tracking.Status = "KILLED"
    try:
        yield recorder
        status = "FINISHED"
    except Exception:  # not KeyboardInterrupt and SystemExit, which leave KILLED
        status = "FAILED"
        raise
    finally:
        recorder.end(status, wait=True)


def record_cached(flow: tracking.Recorder, stages: Iterable[str]) -> None:
    """Record a child of zero length for each stage that DVC skipped or restored, which points to the run that made its outputs."""
    stages = list(stages)
    keys, commit = stage_keys(stages), git.commit()
    for stage in stages:
        tags = {"dvc.stage": stage, "git.commit": commit, "ratchet.cached": "true"}
        run = tracking.Recorder(f"{stage} · cached", parent=flow.id, tags=tags)
        if stage in keys:
            run.made_by(stage, keys[stage])
        run.end("FINISHED")


def stage_keys(stages: list[str]) -> dict[str, str]:
    """Return the runner's key of each stage that it knows; dvc.yaml may hold others."""
    known = set(configuration.stage_names())
    parts = {stage: stage.partition("@") for stage in stages}
    items = {stage: (name, item or None) for stage, (name, _, item) in parts.items() if name in known}
    if not items:
        return {}
    config = configuration.load()
    keys = {stage: configuration.key(name, item, config) for stage, (name, item) in items.items()}
    provenance.save_digests()
    return keys
