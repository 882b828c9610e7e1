"""Serve a workspace (`ratchet up`): a Prefect server on this machine, and the workspace's deployments."""

import os

from prefect import serve
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_RUNNER_POLL_FREQUENCY,
    PREFECT_SERVER_API_PORT,
    temporary_settings,
)

from flows import deployments
from flows.execution import prefect_server, workspace_lease
from tasks.io.system import progress


def up() -> None:
    """Serve until Ctrl-C. Nothing is left running then, nor where this process is killed."""
    port = PREFECT_SERVER_API_PORT.value()
    served = deployments.all_deployments()
    with workspace_lease.acquired(workspace_lease.SERVER, "another `ratchet up`"):
        if owner := prefect_server.port_owner(port):
            raise RuntimeError(
                f"port {port} is taken by {owner}. End that, or choose another one: PREFECT_SERVER_API_PORT=4300 ratchet up"
            )
        url, end = prefect_server.keep_running(port, ui=True)
        os.environ["PREFECT_API_URL"] = url  # for the processes of flow runs
        try:
            with (
                prefect_server.announced(url),
                temporary_settings({PREFECT_API_URL: url, PREFECT_RUNNER_POLL_FREQUENCY: 2}),
            ):
                deployments.watch_heartbeats()
                for deployment in served:  # `serve` registers them only after the words that say how to run them
                    deployment.apply()
                progress.say(f"Prefect answers at {url.removesuffix('/api')}. Ctrl-C ends it, and what it runs.")
                for line in deployments.described(served):
                    progress.say(line)
                progress.say(
                    f"A run, from another terminal here: prefect deployment run pipeline/{deployments.WORKSTATION} --watch"
                )
                serve(*served, limit=1, print_starting_message=False)  # one workspace, one flow: the others wait
        finally:
            end()
            progress.say("Prefect has stopped.")
