"""The speed of the machine: measured once, remembered for each machine, and nothing where it cannot be measured."""

import json
from dataclasses import asdict

import pytest

from flows.execution.cost import machine_speed, remembered
from tasks import machine_speed as measurement
from tasks.core.compute import Compute
from tasks.core.speed import Pace, Speed

SPEED = Speed(6.0, Pace(96, 4e10, 2e10), Pace(576, 1.6e11, 8e10), layer_s=0.002, bytes_per_s=2e10)


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """The times that a speed was measured, with a cache folder of its own."""
    times = []

    def measure(*arguments, patience_s):
        times.append(arguments)
        return asdict(SPEED)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(remembered, "printed", measure)
    return times


def test_it_is_measured_once_and_says_so(measured, tmp_path, capsys):
    assert machine_speed.of(Compute()) == machine_speed.of(Compute()) == SPEED
    assert len(measured) == 1
    said = capsys.readouterr()
    assert said.err == "Measuring how fast this machine computes, once …\n"
    assert said.out == ""
    assert machine_speed.cache_file() == tmp_path / "cache/ratchet/machine_speed.json"


def test_threads_precision_and_torch_have_speeds_of_their_own(measured, monkeypatch):
    machine_speed.of(Compute())
    machine_speed.of(Compute(threads=1))
    machine_speed.of(Compute(precision="bf16"))
    facts = machine_speed.provenance.machine_class() | {"torch": "99.0"}
    monkeypatch.setattr(machine_speed.provenance, "machine_class", lambda: facts)
    machine_speed.of(Compute())
    assert len(measured) == 4
    assert len(json.loads(machine_speed.cache_file().read_text())) == 4


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"KEY": {"start_s": 1}}', '{"KEY": 3}'])
def test_a_cache_that_cannot_be_read_is_made_anew(measured, text):
    file = machine_speed.cache_file()
    file.parent.mkdir(parents=True)
    file.write_text(text.replace("KEY", machine_speed.machine_key(Compute())))
    assert machine_speed.of(Compute()) == SPEED
    assert len(measured) == 1


def test_a_cache_folder_that_cannot_be_written_costs_a_measurement_each_time(measured, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert machine_speed.of(Compute()) == machine_speed.of(Compute()) == SPEED
    assert len(measured) == 2


@pytest.mark.parametrize("program", ["exit 1", "echo no numbers", "echo '{}'"])
def test_a_measurement_that_fails_is_no_speed_and_is_not_remembered(monkeypatch, tmp_path, program):
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{program}\n")
    python.chmod(0o755)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(remembered.sys, "executable", str(python))
    assert machine_speed.of(Compute()) is None
    assert not machine_speed.cache_file().exists()


def test_the_pace_of_another_width_lies_between_those_measured():
    assert SPEED.pace(96).train_ops_per_s == pytest.approx(SPEED.narrow.train_ops_per_s)
    assert SPEED.pace(32).read_ops_per_s == pytest.approx(SPEED.narrow.read_ops_per_s)
    assert SPEED.pace(4096).train_ops_per_s == pytest.approx(SPEED.wide.train_ops_per_s)
    between = SPEED.pace((96 * 576) ** 0.5)
    assert between.read_ops_per_s == pytest.approx(8e10, rel=0.01)
    assert between.train_ops_per_s == pytest.approx(4e10, rel=0.01)


def test_what_is_measured_is_what_is_remembered(monkeypatch, capsys):
    """The program itself, with a small model in place of the wide one, and without the imports, which take seconds."""
    for name in (*measurement.QUIET, "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setattr(measurement.process, "quiet", lambda: None)
    monkeypatch.setattr(measurement, "_import_libraries", lambda: None)
    monkeypatch.setattr(measurement, "WIDE", measurement.WIDE | {"intermediate_size": 64})
    monkeypatch.setattr(measurement, "TOKENS", 32)
    monkeypatch.setattr(measurement, "REPEATS", 1)
    monkeypatch.setattr(measurement, "BANDWIDTH_NUMBERS", 2**16)
    measurement.main("fp32", 1)
    speed = machine_speed._speed(json.loads(capsys.readouterr().out))
    assert (speed.narrow.hidden, speed.wide.hidden) == (96, 576)
    assert (
        min(speed.wide.train_ops_per_s, speed.narrow.train_ops_per_s) > 0
    )  # which is faster is left to a quiet machine
    assert speed.layer_s > 0
    assert speed.bytes_per_s > 0
