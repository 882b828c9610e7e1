"""How a command ends that is asked to stop while a flow works."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import typer

from tasks.io import progress


@contextmanager
def told() -> Iterator[None]:
    """Ctrl-C and a plain `kill` end what was started and close what is recorded; the exit code says which it was."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    except KeyboardInterrupt:
        progress.say("Stopped. What is finished is kept; the next run goes on from here.")
        raise typer.Exit(128 + signal.SIGINT) from None


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    """Let a plain `kill` unwind: what was started is stopped, what was recorded is closed."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # being asked twice must not break off the tidying
    raise SystemExit(128 + signal.SIGTERM)
