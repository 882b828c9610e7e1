"""The way by which bytes come from a far side and go to it, whatever carries them."""

from flows.execution.elsewhere import hosts
from flows.execution.elsewhere.hosts import Host


class Unreachable(RuntimeError):
    """Raised when a host cannot be used or was lost; the message says what would do."""


def last_words(output: bytes) -> str:
    """Return the last two lines of what a program printed."""
    lines = output.decode(errors="replace").split("\n")
    return " ".join([line.strip() for line in lines if line.strip()][-2:]).rstrip(".")


def explain(host: Host, code: int, said: str) -> str:
    """Return the reasons that do not depend on what carries the bytes."""
    if "older than 3.11" in said:
        return f"{said}, which `python` in {hosts.path()} names ({host.python}). Name a newer one."
    if "No space left" in said:
        return f"the disk is full there ({host.folder})."
    return f"the far side did not start ({said or f'exit code {code}'})."
