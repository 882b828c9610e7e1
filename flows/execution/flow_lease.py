"""Hold the workspace lease for a Prefect flow, whoever started it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context

from prefect import runtime, tags
from prefect.logging import get_run_logger

from flows.execution import cancellation, prefect_server, supervisor, workspace_lease
from tasks.io.system import progress


@contextmanager
def acquired() -> Iterator[None]:
    """Hold the workspace for this flow alone, copy progress lines to Prefect's log of the run, and give our tag to flows started inside.

    The run of a deployment waits for the lease, and ends with the process that serves it. A run from a terminal does not wait: it is
    refused with the id of the process that holds the lease, and the user can decide. Both end if Prefect cancels them.
    """
    is_deployment = bool(runtime.deployment.id)
    if is_deployment:
        supervisor.follow_parent()
    elif not prefect_server.is_private():
        cancellation.follow(str(runtime.flow_run.id))
    with progress.heard_by(_logger()), workspace_lease.acquired(wait=is_deployment), tags(prefect_server.TAG):
        yield


def _logger() -> Callable[[str], None]:
    """Return a function that logs a line to the flow's run, from any thread.

    Without this run's context, a thread of ours has none of Prefect's settings, not even the server's address: Prefect would start another
    server for it, which outlives the flow.
    """
    log, context = get_run_logger().info, copy_context()

    def written(line: str) -> None:
        context.copy().run(log, line)  # a copy, since a context cannot be entered twice at the same time

    return written
