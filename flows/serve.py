"""Serve a workspace (`ratchet up`): a Prefect server on this machine, and the workspace's deployments."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from httpx import TransportError
from prefect import serve
from prefect.deployments.runner import RunnerDeployment
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_RUNNER_POLL_FREQUENCY,
    PREFECT_SERVER_API_PORT,
    temporary_settings,
)

from flows import automations, deployments
from flows.automations import Notifications
from flows.execution import ports, prefect_server, ray_head, supervisor, workspace_lease
from tasks.io.system import progress

AT_ONCE = 4
"""Runs that are started at a time: one works in the workspace, the others wait for it or for a person's approval."""
Deployments = Sequence[RunnerDeployment]


def up(*, ray: bool = False) -> None:
    """Serve until Ctrl-C, with `ray` also a Ray cluster of this machine. No process is left running, not even if this one is killed."""
    served, told = deployments.all_deployments(), automations.notifications()
    with ExitStack() as stack:
        url = stack.enter_context(server())
        stack.enter_context(temporary_settings({PREFECT_RUNNER_POLL_FREQUENCY: 2}))
        if ray:
            variables = ray_head.variables(stack.enter_context(ray_head.running()))
            os.environ |= variables  # for the processes of flow runs
            exported = " ".join(f"{name}={value}" for name, value in variables.items())
            progress.say(f"A Ray cluster of this machine answers. Another terminal uses it after: export {exported}")
        _registered(served, told, url)
        progress.say(f"Prefect answers at {prefect_server.pages(url)}. Ctrl-C ends it, and what it runs.")
        for line in deployments.described(served):
            progress.say(line)
        progress.say(f"Notifications: {told}.")
        progress.say(
            f"A run, from another terminal here: prefect deployment run pipeline/{deployments.WORKSTATION} --watch"
        )
        _serving(served, url)


@contextmanager
def server(port: int | None = None, command: str = "PREFECT_SERVER_API_PORT={port} ratchet up") -> Iterator[str]:
    """Run the workspace's Prefect server with its pages inside the block, and let plain `prefect` find it. Yields its API address.

    Raises RuntimeError, with the command for another port, if the port is taken.
    """
    port = port or PREFECT_SERVER_API_PORT.value()
    with workspace_lease.acquired(workspace_lease.SERVER, "`ratchet open prefect` or another `ratchet up`"):
        if owner := ports.port_owner(port):
            raise RuntimeError(
                f"port {port} is taken by {owner}. End that, or choose another one: {command.format(port=port + 1)}"
            )
        url, end = prefect_server.keep_running(port, ui=True)
        os.environ["PREFECT_API_URL"] = url  # for the processes of flow runs
        try:
            with prefect_server.announced(url), temporary_settings({PREFECT_API_URL: url}):
                yield url
        finally:
            end()
            progress.say("Prefect has stopped.")


def _registered(served: Deployments, told: Notifications, url: str) -> None:
    """Register the automations and the deployments. `serve` registers the deployments too, but only after we print how to run them."""

    def register() -> None:
        if not prefect_server.has_own_database():
            automations.claim()
        automations.apply_all(told)
        for deployment in served:
            deployment.apply()

    _until_it_answers(register, url)


def _serving(served: Deployments, url: str) -> None:
    """Start runs that are asked for, until Ctrl-C. The workspace lease lets one flow work at a time; the others wait."""
    _until_it_answers(lambda: serve(*served, limit=AT_ONCE, print_starting_message=False), url)


def _until_it_answers(ask: Callable[[], object], url: str) -> None:
    """Call `ask` until the server answers. A killed server is restarted, and registering twice has the same effect as once."""
    while True:
        try:
            ask()
            return
        except TransportError:
            time.sleep(supervisor.PACE_S)
            while not prefect_server.answers(url):  # a server that cannot be restarted ends this process
                time.sleep(supervisor.PACE_S)
