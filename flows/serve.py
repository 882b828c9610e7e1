"""What `ratchet up` keeps running: a Prefect server on this machine, and the deployments of this workspace."""

import os

from prefect import serve
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_RUNNER_POLL_FREQUENCY,
    PREFECT_SERVER_API_PORT,
    temporary_settings,
)

from flows import deployments, server, workspace
from tasks.io import progress


def up() -> None:
    """Serve until Ctrl-C. Nothing is left running then, nor where this process is killed."""
    port = PREFECT_SERVER_API_PORT.value()
    offered = deployments.all_of_them()
    with workspace.claimed(workspace.SERVER, "another `ratchet up`"):
        if owner := server.listener(port):
            raise RuntimeError(
                f"port {port} is taken by {owner}. End that, or choose another one: PREFECT_SERVER_API_PORT=4300 ratchet up"
            )
        url, end = server.keep(port, ui=True)
        os.environ["PREFECT_API_URL"] = url  # for the processes of flow runs
        try:
            with server.announced(url), temporary_settings({PREFECT_API_URL: url, PREFECT_RUNNER_POLL_FREQUENCY: 2}):
                deployments.watch_heartbeats()
                for one in offered:  # `serve` registers them only after the words that say how to run them
                    one.apply()
                progress.say(f"Prefect answers at {url.removesuffix('/api')}. Ctrl-C ends it, and what it runs.")
                for line in deployments.described(offered):
                    progress.say(line)
                progress.say(
                    f"A run, from another terminal here: prefect deployment run pipeline/{deployments.WORKSTATION} --watch"
                )
                serve(*offered, limit=1, print_starting_message=False)  # one workspace, one flow: the others wait
        finally:
            end()
            progress.say("Prefect has stopped.")
