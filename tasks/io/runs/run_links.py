"""Links to MLflow's pages of the runs of a flow and its stages."""

import logging
import re
from collections.abc import Callable
from typing import Any, TypeVar

from tasks.io.runs import experiment_page, logged_models, run_store

T = TypeVar("T")

PORT = 5000
"""The default port of `ratchet ui`, which shows a store on this machine."""
REPORT = "artifacts/report/index.html"
"""The place of the report on the page of a flow's run."""
LATEST = 200
"""Number of runs that are searched for those of the present outputs."""

_log = logging.getLogger(__name__)


def is_server() -> bool:
    """Return True if the store is a server with its own pages."""
    return run_store.uri().startswith(("http://", "https://"))


def server() -> str:
    """Return the address of a store's server, without the user name and password that the setting may contain. The browser asks for them."""
    return re.sub(r"://[^/]*@", "://", run_store.uri()).rstrip("/")


def hint() -> str:
    """Return a note that users need to follow the links; empty if none is needed."""
    return "" if is_server() else f"Its links answer while `ratchet ui` runs (port {PORT})."


def of_stages(flow: str) -> dict[str, str]:
    """Map every stage of a flow to the address of its page. `flow` is our id of the flow's run (`Recorder.id`).

    A stage that did not have to run has the page of the run that made its outputs. Returns an empty mapping while the store is out
    of reach.
    """
    pages = {}
    for run in _search(f"tags.`ratchet.parent` = '{flow}'"):
        tags, info = run.data.tags, run.info
        pages[tags.get("dvc.stage", "")] = page(info.experiment_id, tags.get("ratchet.produced_by", info.run_id))
    return {stage: address for stage, address in pages.items() if stage}


def of_flow(flow: str, place: str = "") -> str | None:
    """Return the address of the page of a flow's own run, or of a place on it (`REPORT`).

    None while MLflow does not have the run.
    """
    runs = _search(f"tags.`ratchet.run` = '{flow}'")
    return page(runs[0].info.experiment_id, runs[0].info.run_id, place) if runs else None


def of_report(candidate: str) -> str | None:
    """Return the address of the report on the model with this hash of its files, on the page of the run that measured it first.

    None if MLflow does not know it.
    """
    measured = _ask(lambda client, experiment: (experiment, logged_models.measured(client, experiment, candidate)))
    return page(measured[0], measured[1].run, REPORT) if measured and measured[1] else None


def page(experiment: str, run: str, place: str = "") -> str:
    """Return the address of the page of an MLflow run, or of a place on it."""
    address = server() if is_server() else f"http://127.0.0.1:{PORT}"
    return f"{address}/#/experiments/{experiment}/runs/{run}{f'/{place}' if place else ''}?{experiment_page.TRAINING}"


def of_outputs() -> dict[str, tuple[str, str]]:
    """Map each stage to the name and the page of the latest run that computed its outputs, in the order of the runs.

    Returns nothing while the store is out of reach.
    """
    if run_store.is_new():
        return {}  # its schema takes seconds to make, and holds nothing
    finished = "attributes.status = 'FINISHED' and tags.`ratchet.key` LIKE '%'"
    runs = _search(finished, order_by=["attributes.start_time DESC"], max_results=LATEST)
    latest = {run.data.tags.get("dvc.stage", ""): run.info for run in reversed(runs)}
    ordered = sorted(latest.items(), key=lambda entry: entry[1].start_time)
    return {stage: (info.run_name, page(info.experiment_id, info.run_id)) for stage, info in ordered if stage}


def _search(query: str, **options: Any) -> list[Any]:
    return _ask(lambda client, experiment: list(client.search_runs([experiment], query, **options))) or []


def _ask(question: Callable[[Any, str], T]) -> T | None:
    """Call a function with MLflow's client and the id of our experiment, and return its result; None while the store is out of reach."""
    try:
        return question(*run_store.connect())
    except run_store.outages() as error:
        _log.info(
            "MLflow (%s) does not answer: %s", run_store.shown(), error
        )  # a message at the end of the run says so
        return None
