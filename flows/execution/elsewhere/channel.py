"""Share what all channels to a far side need: the error for a lost host, and explanations of failures."""

from flows.execution.elsewhere import hosts
from flows.execution.elsewhere.hosts import Host


class Unreachable(RuntimeError):
    """Raised if a host cannot be used or was lost; the message says what would help."""


def last_words(output: bytes) -> str:
    """Return the last two non-empty lines of a program's output."""
    lines = output.decode(errors="replace").split("\n")
    return " ".join([line.strip() for line in lines if line.strip()][-2:]).rstrip(".")


def explain(host: Host, code: int, said: str) -> str:
    """Return the reason of a failure that does not depend on the transport (SSH or Ray)."""
    if "older than 3.11" in said:
        return f"{said}, which `python` in {hosts.path()} names ({host.python}). Name a newer one."
    if "No space left" in said:
        return f"the disk of the host is full ({host.folder})."
    return f"the far side did not start ({said or f'exit code {code}'})."
