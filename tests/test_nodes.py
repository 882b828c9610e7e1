"""Nodes that share a training make the bytes that as many processes of one machine make, also when one of them is lost."""

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tasks import configuration, nodes
from tasks.core.records import Document, Example, FaultPair, Message
from tasks.io import tables
from tests.runner import ROOT

WAIT_S = 300


def example(number: int, response: str, split: str) -> Example:
    words = [Message("user", f"Is {number} a number?"), Message("assistant", response)]
    name = f"{split}-{number:02d}"
    return Example(name, words, "chat", "tests", name, split, "by hand", "Apache-2.0")


class Node:
    """A folder with all that stage `tune` reads, as a clone on another machine has it."""

    def __init__(self, folder: Path, address: str, **resources: object) -> None:
        self.folder = folder
        shutil.copytree(ROOT / "params/micro-data/model", folder / "models/pretrained")
        (folder / "data/rounds/r0").mkdir(parents=True)
        (folder / "data/ingested").mkdir()
        trains = [example(n, "yes, indeed", "train") for n in range(40)]
        tables.write(folder / "data/rounds/r0/examples.parquet", trains, Example)
        tables.write(folder / "data/rounds/r0/faults.parquet", [], FaultPair)
        tables.write(folder / "data/ingested/valid.parquet", [example(n, "no", "valid") for n in range(4)], Example)
        tables.write(folder / "data/ingested/train_documents.parquet", [], Document)
        params = yaml.safe_load((ROOT / "params/micro.yaml").read_text())
        params["compute"] |= {"processes": 2}
        params["tune"] |= {"adapter": "lora", "pack_tokens": 64, "max_tokens": 6000, "epochs": 9, "save_every": 3}
        params["methods"]["lora"] = {"rank": 4, "dropout": 0.3}  # what is dropped hangs on each process's random state
        params["resources"] = {"tune": {"nodes": 2, "join_s": 200} | resources}
        (folder / "params.yaml").write_text(yaml.safe_dump(params))
        self.env = os.environ | {
            "PYTHONPATH": str(ROOT),
            "RATCHET_RENDEZVOUS": address,
            "RATCHET_PARENT": "0" * 32,  # runs wait in the spool for the uploader of a flow
            "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
        }

    def start(self, *words: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", *words, "tune", "r0"],
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def leads(self) -> "subprocess.Popen[str]":
        return self.start("tasks.run")

    def joins(self) -> "subprocess.Popen[str]":
        return self.start("tasks.nodes", nodes.JOIN)

    def outputs(self) -> dict[str, str]:
        folder = self.folder / "models/tuned/r0"
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def ended(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """Return the exit code of a node, and what it said."""
    said, _ = process.communicate(timeout=WAIT_S)
    return process.returncode, said


@pytest.fixture
def free():
    """A port of the loopback that is free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def node(tmp_path, free):
    def make(name: str, **resources: object) -> Node:
        return Node(tmp_path / name, f"127.0.0.1:{free}", **resources)

    return make


def wait_for(pattern: str, folder: Path, *processes: "subprocess.Popen[str]") -> None:
    """Wait until a folder has such a file, as long as all these processes are at work."""
    deadline = time.monotonic() + WAIT_S
    while not list(folder.glob(pattern)):
        assert all(process.poll() is None for process in processes), [ended(process) for process in processes]
        assert time.monotonic() < deadline, f"{folder} never had {pattern}"
        time.sleep(0.01)


def test_a_node_is_lost_and_another_takes_its_place_and_the_bytes_are_those_of_two_processes_here(node):
    alone, first, other, fresh = node("alone", nodes=1), node("first"), node("other"), node("fresh")
    code, said = ended(alone.leads())
    assert code == 0, said

    leading, lost = first.leads(), other.joins()
    wait_for("work/*/*/checkpoint-*/complete", first.folder / ".ratchet", leading, lost)
    lost.send_signal(signal.SIGKILL)
    joined, led = ended(fresh.joins()), ended(leading)
    assert (joined[0], led[0], ended(lost)[0]) == (0, 0, -signal.SIGKILL), (joined, led)
    assert joined[1] == "tune@r0: trained; the first node writes the outputs\n"
    assert "another process of this training has ended" in led[1]
    assert first.outputs() == alone.outputs()
    for folder in other.folder, fresh.folder:
        assert not (folder / "models/tuned").exists()
        assert not (folder / ".ratchet/spool").exists()


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        ({"tune": {"nodes": 0}}, r"resources.tune.nodes: .*greater than or equal to 1"),
        ({"tune": {"nodes": 3}}, r"resources.tune.nodes: 3 cannot have equal parts of compute.processes: 2. Set a"),
        ({"ingest": {"nodes": 2}}, r"resources.ingest.nodes: 2: nodes share a training, and ingest does not train"),
    ],
)
def test_numbers_of_nodes_that_cannot_be(node, monkeypatch, resources, message):
    monkeypatch.chdir(node("here").folder)
    params = yaml.safe_load(Path("params.yaml").read_text()) | {"resources": resources}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    with pytest.raises(ValueError, match=message):
        configuration.load()


@pytest.mark.parametrize("address", [None, "10.0.0.1", "10.0.0.1:70000"])
def test_without_an_address_no_node_starts(node, monkeypatch, address):
    monkeypatch.chdir(node("here").folder)
    monkeypatch.delenv("RATCHET_RENDEZVOUS", raising=False)
    if address:
        monkeypatch.setenv("RATCHET_RENDEZVOUS", address)
    with pytest.raises(
        ValueError, match=r"resources.tune.nodes: 2 needs an address .* is (not set|10.*)\. Set it to HOST"
    ):
        nodes.run("tune", "r0", joins=False)


def test_a_node_without_the_inputs_says_how_to_get_them(node, monkeypatch):
    monkeypatch.chdir(node("here").folder)
    monkeypatch.setenv("RATCHET_RENDEZVOUS", "127.0.0.1:29400")
    Path("data/ingested/valid.parquet").unlink()
    with pytest.raises(FileNotFoundError, match=r"`dvc pull data/ingested/valid.parquet` fetches it"):
        nodes.run("tune", "r0", joins=True)


def test_what_a_node_has_otherwise_is_named(node, monkeypatch):
    monkeypatch.chdir(node("here").folder)
    config = configuration.load()
    ours = nodes.facts("tune", "r0", config)
    nodes.compare(ours, ours)
    there = ours | {"torch": "1.0", "code": "another", "contents of models/pretrained": "another"}
    with pytest.raises(RuntimeError) as caught:
        nodes.compare(there, ours)
    assert "another code, another contents of models/pretrained, torch 2" in str(caught.value)
    assert "(there 1.0). Bring it to the same commit" in str(caught.value)


def test_who_does_not_come_is_told_in_one_sentence(free):
    from tasks.io.system import torchrun

    meeting = torchrun.Meeting("127.0.0.1", free, nodes=2, join_s=1)
    with pytest.raises(
        RuntimeError, match=rf"no first node at RATCHET_RENDEZVOUS=127.0.0.1:{free} within 1 s \(Connection"
    ):
        torchrun.found(meeting, nodes.FACTS)
    store = torchrun.opened(meeting)
    store.set(nodes.FACTS, "agreed")
    assert torchrun.found(meeting, nodes.FACTS) == b"agreed"
    with pytest.raises(RuntimeError, match=r"^Fewer than 2 nodes were at RATCHET_RENDEZVOUS=127.0.0.1:\d+ within 1 s"):
        torchrun.train(meeting, 1, "tasks.run", ["tune", "r0"], joins=False)
    with pytest.raises(RuntimeError, match=r"cannot listen at RATCHET_RENDEZVOUS=192.0.2.1:\d+ \(Cannot assign"):
        torchrun.opened(torchrun.Meeting("192.0.2.1", free, nodes=2, join_s=1))
