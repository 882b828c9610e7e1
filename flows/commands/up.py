"""`ratchet up`."""

import signal
from types import FrameType


def up() -> None:
    """Keep Prefect's server and deployments running, until Ctrl-C.

    Example: ratchet up, then in another terminal: prefect deployment run pipeline/workstation --watch
    """
    from flows import serve

    signal.signal(signal.SIGTERM, _interrupt)
    serve.up()


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
