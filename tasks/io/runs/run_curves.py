"""Metrics of each step of a training, from its run in MLflow."""

import logging
from collections.abc import Sequence

from tasks.io.runs import run_store

_log = logging.getLogger(__name__)


def of_stage(stage: str, metrics: Sequence[str]) -> dict[str, list[tuple[int, float]]]:
    """Return metrics of the latest run that computed the outputs of a stage (`tune@r0`): name → (step, value).

    Returns an empty mapping if there is no such run, or while the store is out of reach.
    """
    if run_store.is_new():
        return {}  # its schema takes seconds to make, and holds nothing
    try:
        client, experiment = run_store.connect()
        query = f"attributes.status = 'FINISHED' and tags.`dvc.stage` = '{stage}' and tags.`ratchet.key` LIKE '%'"
        for run in client.search_runs([experiment], query, order_by=["attributes.start_time DESC"], max_results=20):
            if any(name in run.data.metrics for name in metrics):
                histories = {name: client.get_metric_history(run.info.run_id, name) for name in metrics}
                return {
                    name: sorted((m.step, m.value) for m in history) for name, history in histories.items() if history
                }
    except run_store.outages() as error:
        _log.warning("MLflow (%s) does not answer: %s", run_store.shown(), error)
    return {}
