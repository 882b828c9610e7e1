"""What MLflow hears of a flow: a parent run, and a `cached` child for every stage that did not have to run."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from tasks import settings
from tasks.io import provenance, tracking


@contextmanager
def parent(flow_run: str | None = None, title: str = "pipeline") -> Iterator[tracking.Recorder]:
    """MLflow's run of a flow, or of what else starts several runs.

    It ends as what became of it: FINISHED, FAILED, or KILLED where it was cut off.
    """
    commit = provenance.commit()
    tags = {"git.commit": commit} | ({"prefect.flow_run_id": flow_run} if flow_run else {})
    recorder = tracking.Recorder(f"{title} · {commit[:8]}", tags=tags)
    status: tracking.Status = "KILLED"
    try:
        yield recorder
        status = "FINISHED"
    except Exception:
        status = "FAILED"
        raise
    finally:
        recorder.end(status, wait=True)


def record_cached(flow: tracking.Recorder, stages: Iterable[str]) -> None:
    """A child of zero length for each stage that DVC skipped or restored, pointing to the run that made its outputs."""
    stages = list(stages)
    known, commit = keys(stages), provenance.commit()
    for stage in stages:
        tags = {"dvc.stage": stage, "git.commit": commit, "ratchet.cached": "true"}
        run = tracking.Recorder(f"{stage} · cached", parent=flow.id, tags=tags)
        if stage in known:
            run.made_by(stage, known[stage])
        run.end("FINISHED")


def keys(stages: list[str]) -> dict[str, str]:
    """The runner's key of each stage that it knows; dvc.yaml may hold others."""
    known = set(settings.stage_names())
    parts = {stage: stage.partition("@") for stage in stages}
    ours = {stage: (name, item or None) for stage, (name, _, item) in parts.items() if name in known}
    if not ours:
        return {}
    everything = settings.load()
    found = {stage: settings.key(name, item, everything) for stage, (name, item) in ours.items()}
    provenance.save_digests()
    return found
