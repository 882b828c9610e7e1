"""The rendezvous and the agent of torchrun for the nodes of a training."""

import math
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from torch.distributed import DistError, TCPStore  # type: ignore[attr-defined]
from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup, WorkerSpec
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.rendezvous import (
    RendezvousClosedError,
    RendezvousConnectionError,
    RendezvousError,
    RendezvousParameters,
    RendezvousTimeoutError,
    registry,
)

from tasks.core import environment
from tasks.io.system import process

LATER = "~"
"""Prefix of the names of joining nodes. torchrun ranks nodes by their names, and the first node's address sorts before it."""
RESTARTS = 3
"""How often a node restarts its processes after one was lost."""
RETRY_S = 1.0


@dataclass(frozen=True)
class Meeting:
    """The rendezvous of a training."""

    host: str
    """An address of the first node."""
    port: int
    nodes: int
    join_s: float
    """Seconds within which all nodes must be present."""

    def __str__(self) -> str:
        return f"{environment.RENDEZVOUS}={self.host}:{self.port}"


def opened(meeting: Meeting) -> Any:
    """Open the rendezvous on this machine, only at its address, and return its store, which the agent will use."""
    try:
        family, _, _, _, address = socket.getaddrinfo(meeting.host, meeting.port, type=socket.SOCK_STREAM)[0]
        listening = socket.create_server(address[:2], family=family)  # TCPStore itself would listen on all addresses
    except OSError as error:
        raise RuntimeError(
            f"This machine cannot listen at {meeting} ({error.strerror}). It has to be an address of the first node, which has the workspace, "
            "and a free port."
        ) from None
    return TCPStore(
        meeting.host,
        meeting.port,
        is_master=True,
        multi_tenant=True,
        wait_for_workers=False,
        master_listen_fd=listening.detach(),
    )


def found(meeting: Meeting, key: str) -> bytes:
    """Wait for the rendezvous of the first node, and return its value of a key. Raises RuntimeError if it does not come."""
    deadline, problem = time.monotonic() + meeting.join_s, ""
    while (left := deadline - time.monotonic()) > 0:
        try:
            # TCPStore prints a page for each failed attempt, so a plain connection is tried first.
            socket.create_connection((meeting.host, meeting.port), timeout=left).close()
            store = TCPStore(
                meeting.host, meeting.port, is_master=False, timeout=timedelta(seconds=math.ceil(min(left, 60)))
            )
            return bytes(store.get(key))
        except (OSError, DistError) as error:
            problem = (
                getattr(error, "strerror", None) or "the server there is not a rendezvous of this version of torch"
            )
            time.sleep(min(RETRY_S, left))
    raise RuntimeError(
        f"There was no first node at {meeting} within {meeting.join_s:g} s ({problem}). Start the stage there, or correct the address."
    )


class Agent(LocalElasticAgent):
    """The agent of a node. It restarts lost processes, but not those that ended with an error message, because they would only repeat it."""

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        result = super()._monitor_workers(worker_group)
        if any(failure.exitcode == process.TOLD for failure in result.failures.values()):
            self._remaining_restarts = 0
        return result


def train(meeting: Meeting, processes: int, module: str, arguments: Sequence[str], *, joins: bool) -> None:
    """Run a module in `processes` processes of this node until all nodes have finished.

    Raises RuntimeError, with a remedy, if nodes are missing or were lost, and SystemExit if a process here has reported an error.
    """
    # With a store shared by the agents, an agent that replaces another one waits for its address forever (torch 2.13).
    environment.set_defaults({"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"})
    again = "Run the stage again, and join it: it goes on from the last complete checkpoint."
    try:
        handler = registry.get_rendezvous_handler(
            RendezvousParameters(
                "c10d",
                f"{meeting.host}:{meeting.port}",
                run_id="-".join(arguments),
                min_nodes=meeting.nodes,
                max_nodes=meeting.nodes,
                local_addr=f"{LATER}{socket.gethostname()}" if joins else meeting.host,
                is_host=str(not joins),
                join_timeout=math.ceil(meeting.join_s),
            )
        )
        spec = WorkerSpec(
            "stage",
            processes,
            handler,
            entrypoint=sys.executable,
            args=("-m", module, *arguments),
            max_restarts=RESTARTS,
        )
        try:
            result = Agent(spec, DefaultLogsSpecs()).run()
        except SignalException:
            raise  # the others may continue with a node that joins in place of this one
        except BaseException:
            handler.shutdown()
            raise
        handler.shutdown()
    except SignalException as error:
        raise SystemExit(128 + error.sigval) from None
    except RendezvousTimeoutError:
        raise RuntimeError(
            f"Fewer than {meeting.nodes} nodes were at {meeting} within {meeting.join_s:g} s (resources.STAGE.join_s). {again}"
        ) from None
    except RendezvousClosedError:
        raise RuntimeError("The training has stopped on another node, which says why.") from None
    except (RendezvousConnectionError, DistError):
        lost = (
            f"The first node is not at {meeting} any more" if joins else f"The other nodes at {meeting} do not answer"
        )
        raise RuntimeError(f"{lost}. {again}") from None
    except RendezvousError as error:
        raise RuntimeError(f"The nodes did not meet at {meeting} ({error}). {again}") from None
    if result.is_failed():
        if any(failure.exitcode == process.TOLD for failure in result.failures.values()):
            raise SystemExit(process.TOLD)
        raise RuntimeError(f"Processes of this node were lost {RESTARTS + 1} times. {again}")
