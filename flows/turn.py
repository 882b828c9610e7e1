"""A flow's turn in the workspace, whoever started it."""

from collections.abc import Iterator
from contextlib import contextmanager

from prefect import runtime
from prefect.logging import get_run_logger

from flows import server, stopping, supervisor, workspace
from tasks.io import progress


@contextmanager
def taken() -> Iterator[None]:
    """The workspace for this flow alone; what is said meanwhile stands in Prefect's log of the run too.

    The run of a deployment waits for its turn, and ends with the process that serves it. One from a terminal is refused with
    the number of the process that works there: whoever sits before it can decide. Both end when Prefect is told to cancel them.
    """
    deployed = bool(runtime.deployment.id)
    if deployed:
        supervisor.follow_parent()
    elif not server.is_private():
        stopping.follow_cancelling(str(runtime.flow_run.id))
    with progress.heard_by(get_run_logger().info), workspace.claimed(wait=deployed):
        yield
