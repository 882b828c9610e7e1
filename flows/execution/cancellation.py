"""End a command that is interrupted while a flow works: by Ctrl-C, a signal, or a cancellation in Prefect."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from uuid import UUID

import typer

from tasks.io.system import progress

PACE_S = 2.0
"""Seconds between two queries whether Prefect has cancelled a run."""
_cancelled: list[UUID] = []


@contextmanager
def handled() -> Iterator[None]:
    """Let Ctrl-C, a plain `kill` and a cancelled run end started processes and close open records; the exit code tells which it was."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    except KeyboardInterrupt:
        progress.say("Stopped. What is finished is kept; the next run continues from here.")
        raise typer.Exit(128 + signal.SIGINT) from None
    except SystemExit:
        for run in _cancelled:
            _confirm(run)
        raise


def interrupt_when_terminated() -> None:
    """Let a plain `kill` end a server of ours as Ctrl-C does.

    It also sets the handler of Ctrl-C again, and must be called after imports: a library that MLflow imports takes over the signal and
    drops it.
    """

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, interrupt)


def follow(run: str) -> None:
    """End this process if its flow run is cancelled in Prefect, which itself ends only what its workers started. Returns at once."""
    from httpx import HTTPError
    from prefect import get_client
    from prefect.exceptions import ObjectNotFound

    def is_open() -> bool:
        """Return True while the run goes on, and while the server does not answer."""
        try:
            state = client.read_flow_run(UUID(run)).state
        except ObjectNotFound:  # deleted
            return False
        except HTTPError:
            return True
        if state is not None and state.is_cancelling():
            progress.say("This run was cancelled in Prefect.")
            _cancelled.append(UUID(run))
            os.kill(os.getpid(), signal.SIGTERM)
            return False
        return state is None or not state.is_final()

    def watch() -> None:
        with client:
            while is_open():
                time.sleep(PACE_S)

    client = get_client(sync_client=True)  # here, as settings of this thread do not hold in another one
    threading.Thread(target=watch, name="follow-cancelling", daemon=True).start()


def _confirm(run: UUID) -> None:
    """Set a run that was being cancelled to Cancelled: Prefect's engine would take a run that ends by a signal for crashed."""
    from httpx import HTTPError
    from prefect import get_client
    from prefect.states import Cancelled

    # A server that does not answer will mark the run by itself, as its heartbeats are missing.
    with suppress(HTTPError), get_client(sync_client=True) as client:
        client.set_flow_run_state(run, Cancelled(), force=True)


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    """Let a plain `kill` unwind the stack, so that started processes are stopped and open records closed."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second signal must not interrupt the cleanup
    raise SystemExit(128 + signal.SIGTERM)
