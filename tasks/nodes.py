"""Start torchrun's agent on this machine for a training that several machines share: `python -m tasks.nodes [--join] STAGE [ITEM]`.

The first node is the machine that runs the workspace. It hosts the rendezvous at RATCHET_RENDEZVOUS and the process of rank 0, which alone
writes outputs, checkpoints and the MLflow run. The other nodes join with `--join`. If a process is lost, the training restarts on all nodes from
the last complete checkpoint.
"""

import json
import logging
import os
import socket
import sys
from collections.abc import Mapping

import psutil

from tasks import configuration
from tasks.configuration import PipelineConfig
from tasks.core import environment
from tasks.core.nested import flat
from tasks.core.operation import Resources
from tasks.io import provenance
from tasks.io.system import process, progress

JOIN = "--join"
FACTS = "ratchet/facts"
"""The key in the rendezvous store under which the first node publishes the facts in which all nodes must agree."""


def main(arguments: list[str]) -> int:
    """Run this machine's part of a training, and return the exit code: 0 if all nodes finished it."""
    joins, (stage, *items) = JOIN in arguments, [word for word in arguments if word != JOIN]
    item = items[0] if items else None
    name = "@".join([stage, *items])
    return process.run(lambda: run(stage, item, joins=joins), f"{name} stopped: ")


def run(stage: str, item: str | None, *, joins: bool) -> None:
    """Meet the other nodes, and train with them. Raises RuntimeError with a remedy if that fails."""
    config = configuration.load()
    declared = config.resources.get(stage, Resources())
    if declared.nodes == 1:
        raise ValueError(f"{configuration.PARAMS}: resources.{stage}.nodes is 1: there is nothing to join.")
    host, port = address(stage, declared)
    ours = facts(stage, item, config)
    _be_quiet()
    from tasks.io.system import torchrun

    meeting = torchrun.Meeting(host, port, declared.nodes, declared.join_s)
    arguments = [stage] if item is None else [stage, item]
    if joins:
        compare(json.loads(torchrun.found(meeting, FACTS)), ours)
    else:
        store = torchrun.opened(meeting)
        store.set(FACTS, json.dumps(ours))
        number = "node" if declared.nodes == 2 else f"{declared.nodes - 1} nodes"
        progress.say(
            f"{'@'.join(arguments)}: waits at most {declared.join_s:g} s for the other {number}, to be started by\n"
            f"    {meeting} ratchet join {'@'.join(arguments)}"
        )
    _use_interface(host, port)
    environment.set_defaults({environment.JOINED: "1"} if joins else {})
    torchrun.train(meeting, config.compute.processes // declared.nodes, "tasks.run", arguments, joins=joins)
    if joins:
        progress.say(f"{'@'.join(arguments)}: trained; the first node writes the outputs")


def _be_quiet() -> None:
    """Switch off the error output of torch and torchrun, fifty lines and more, since our message is one sentence. Call it before importing torch."""
    environment.set_defaults({"TORCH_CPP_LOG_LEVEL": "FATAL"})
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)


def address(stage: str, declared: Resources) -> tuple[str, int]:
    """Return host and port of the rendezvous. Raises ValueError if the environment names none."""
    text = os.environ.get(environment.RENDEZVOUS, "")
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ValueError(
            f"resources.{stage}.nodes: {declared.nodes} needs an address at which the other nodes reach the first, and "
            f"{environment.RENDEZVOUS} is {text or 'not set'}. Set it to HOST:PORT, on each node to the same."
        )
    return host.strip("[]"), int(port)


def facts(stage: str, item: str | None, config: PipelineConfig) -> dict[str, str]:
    """Return, by name, the facts in which all nodes must agree because they change bytes. Raises FileNotFoundError if an input is missing."""
    reads, _ = configuration.files(stage, item, config)
    if missing := [str(path) for path in reads.values() if not path.exists()]:
        raise FileNotFoundError(
            f"{', '.join(missing)} is missing on this node. `dvc pull {' '.join(missing)}` fetches it, where the first node has pushed it."
        )
    basis = configuration.basis(stage, item, config)
    settings = {name: json.dumps(value) for name, value in flat(basis.pop("settings"))}
    inputs = {f"contents of {reads[name]}": digest for name, digest in basis.pop("inputs").items()}
    shared = {"stage": stage, f"resources.{stage}.nodes": str(config.resources[stage].nodes), "code": basis["code"]}
    provenance.save_digests()
    return {**shared, **settings, **inputs, **provenance.machine_class()}


def compare(theirs: Mapping[str, str], ours: Mapping[str, str]) -> None:
    """Raise RuntimeError that lists all differences if this node differs from the first."""
    differences = [
        f"{name} {ours[name]} (there {theirs[name]})" if _is_short(ours, theirs, name) else f"another {name}"
        for name in sorted(theirs.keys() | ours.keys())
        if theirs.get(name) != ours.get(name)
    ]
    if differences:
        raise RuntimeError(
            f"This node differs from the first one, so its bytes would differ too: {', '.join(differences)}. Bring it to the same commit (git), "
            "inputs (dvc pull) and packages (constraints.txt), on a processor of the same kind."
        )


def _is_short(ours: Mapping[str, str], theirs: Mapping[str, str], name: str) -> bool:
    """Return True if a person can read both values, because they are not digests."""
    return name != "code" and not name.startswith("contents") and name in ours and name in theirs


def _use_interface(host: str, port: int) -> None:
    """Let gloo and NCCL use the network interface towards the first node. Their default, that of the host name, is often the loopback."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, port))  # sends nothing, but selects a route
        own = probe.getsockname()[0]
    names = [
        name for name, addresses in psutil.net_if_addrs().items() if own in {address.address for address in addresses}
    ]
    if names:
        environment.set_defaults({"GLOO_SOCKET_IFNAME": names[0], "NCCL_SOCKET_IFNAME": names[0]})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
