"""Where MLflow's pages are, and the page of each stage of a flow."""

import logging
import re

from tasks.io import run_store

PORT = 5000
"""Where `ratchet ui` shows a store of this machine, unless it is told otherwise."""

_log = logging.getLogger(__name__)


def is_server() -> bool:
    """Whether the store is a server with pages of its own."""
    return run_store.uri().startswith(("http://", "https://"))


def hint() -> str:
    """What a person must know to follow a link; empty where there is nothing to know."""
    return "" if is_server() else f"Its links answer while `ratchet ui` runs (port {PORT})."


def of_stages(flow: str) -> dict[str, str]:
    """The page of every stage of a flow, whose run of ours (`Recorder.id`) is `flow`: stage → address.

    A stage that did not have to run has the page of the run that made its outputs. Returns nothing while the store is out of
    reach.
    """
    try:
        client, experiment = run_store.connect()
        runs = client.search_runs([experiment], f"tags.`ratchet.parent` = '{flow}'")
    except run_store.outages() as error:
        _log.info("MLflow (%s) does not answer: %s", run_store.shown(), error)  # the end of the run says so
        return {}
    # A person who follows the link is asked for the name and password that an address may hold.
    place = re.sub(r"://[^/]*@", "://", run_store.uri()).rstrip("/") if is_server() else f"http://127.0.0.1:{PORT}"
    made = {run.data.tags.get("dvc.stage"): run.data.tags.get("ratchet.produced_by", run.info.run_id) for run in runs}
    return {stage: f"{place}/#/experiments/{experiment}/runs/{run}" for stage, run in made.items() if stage}
