"""Links to MLflow's pages of the runs of a flow's stages."""

import logging
import re

from tasks.io.runs import run_store

PORT = 5000
"""The default port of `ratchet ui`, which shows a store of this machine."""

_log = logging.getLogger(__name__)


def is_server() -> bool:
    """Return whether the store is a server with pages of its own."""
    return run_store.uri().startswith(("http://", "https://"))


def hint() -> str:
    """Return a note that a person needs to follow the links; empty if none is needed."""
    return "" if is_server() else f"Its links answer while `ratchet ui` runs (port {PORT})."


def of_stages(flow: str) -> dict[str, str]:
    """Map every stage of a flow to the address of its page; `flow` is our id of the flow's run (`Recorder.id`).

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
    address = re.sub(r"://[^/]*@", "://", run_store.uri()).rstrip("/") if is_server() else f"http://127.0.0.1:{PORT}"
    run_of_stage = {
        run.data.tags.get("dvc.stage"): run.data.tags.get("ratchet.produced_by", run.info.run_id) for run in runs
    }
    return {stage: f"{address}/#/experiments/{experiment}/runs/{run}" for stage, run in run_of_stage.items() if stage}
