"""Connect to a host, by SSH or through a Ray cluster, and explain a failure in one sentence."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from flows.execution.elsewhere import boot, frames, over_ray, over_ssh
from flows.execution.elsewhere.channel import Unreachable
from flows.execution.elsewhere.frames import Link
from flows.execution.elsewhere.hosts import Host
from flows.execution.elsewhere.over_ray import Work
from tasks.io.system import timer


@dataclass(frozen=True)
class Facts:
    """The facts that a host reports about itself on connecting."""

    python: str
    packages: dict[str, str]
    """Name → version of the installed packages."""
    free: int
    """Free bytes of the disk that holds its folder."""


@contextmanager
def opened(name: str, host: Host, work: Work) -> Iterator[tuple[Link, Facts]]:
    """Connect to a host, and yield the link to it. At the end of the block the far side ends, with all processes that it started.

    Raises Unreachable if that fails, or if the connection ends within the block.
    """
    modules = boot.modules()
    size = len(modules)
    with over_ray.opened(name, host, size, work) if host.ray else over_ssh.opened(name, host, size) as channel:
        link, facts = Link(channel.incoming, channel.outgoing), None
        try:
            with suppress(ConnectionError):  # the reason is found out below
                channel.outgoing.write(modules)
                channel.outgoing.flush()
            link.wait_until_open()
            frame = link.receive()
            facts = Facts(frame["python"], frame["packages"], frame["free"])
            with timer.every(frames.BEAT_S, lambda: _beat(link), "beat"):
                yield link, facts
        except frames.Gone:
            code, said = channel.end()
            reason = _lost(said) if facts else channel.explain(code, said)
            raise Unreachable(f"{name}: {reason}") from None


def _beat(link: Link) -> None:
    with suppress(frames.Gone):  # the receiving thread gets the error
        link.send(frames.BEAT)


def _lost(said: str) -> str:
    because = f" ({said})" if said else ""
    return f"the connection ended{because}. What is finished is kept, and unfinished work stays there: run it again, and it continues."
