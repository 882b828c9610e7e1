"""System metrics of a stage: what the process and its machine are busy with, sampled beside the work."""

import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from tasks.io.system import usage

SMI = "0, 37, 1024, 81559, 154.2\n1, 0, 512, [N/A], [N/A]\n"


def test_samples_are_numbered_and_stop_with_the_work():
    samples = []
    with usage.watched(lambda number, values: samples.append((number, values)), every_s=0.02):
        deadline = time.monotonic() + 30
        while len(samples) < 3 and time.monotonic() < deadline:
            sum(range(10_000))
    taken = len(samples)
    time.sleep(0.1)
    assert len(samples) == taken >= 3
    assert [number for number, _ in samples] == list(range(taken))
    last = samples[-1][1]
    assert 0 < last["system/process_memory_usage_megabytes"] <= last["system/system_memory_usage_megabytes"] * 10
    assert 0 < last["system/system_memory_usage_percentage"] <= 100
    assert max(values["system/process_cores"] for _, values in samples) > 0


def test_the_memory_of_children_counts_and_a_child_that_ends_is_no_error():
    sampler = usage.Sampler()
    alone = sampler.sample()["system/process_memory_usage_megabytes"]
    program = "data = bytearray(64 * 2**20); print('there', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"there\n"
        assert sampler.sample()["system/process_memory_usage_megabytes"] > alone + 60
        child.communicate(b"\n")
    assert sampler.sample()["system/process_cores"] >= 0


def test_cores_are_counted_over_the_time_that_passed(monkeypatch):
    clock = iter([0.0, 4.0])
    monkeypatch.setattr(usage, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    seconds = iter([1.0, 7.0])
    monkeypatch.setattr(usage.Sampler, "_cpu_seconds", lambda self: next(seconds))
    assert usage.Sampler().sample()["system/process_cores"] == 1.5


def test_the_peak_is_in_megabytes_on_linux_and_on_macos(monkeypatch):
    for system, taken in (("linux", 3 * 1024), ("darwin", 3 * 2**20)):
        monkeypatch.setattr(usage, "sys", SimpleNamespace(platform=system))
        monkeypatch.setattr(usage.resource, "getrusage", lambda _, taken=taken: SimpleNamespace(ru_maxrss=taken))
        assert usage.peak_memory_mb() == 3


def test_each_gpu_has_its_own_figures_and_what_it_does_not_tell_is_left_out(monkeypatch, tmp_path):
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{SMI}END\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    values = usage.gpus()
    assert values["gpu_0_utilization_percentage"] == 37
    assert values["gpu_0_memory_usage_percentage"] == pytest.approx(1.2555, abs=1e-3)
    assert values["gpu_0_power_usage_watts"] == 154.2
    assert values["gpu_1_memory_usage_megabytes"] == 512
    assert not {"gpu_1_memory_usage_percentage", "gpu_1_power_usage_watts"} & values.keys()


@pytest.mark.parametrize("script", ["exit 9", None])
def test_a_machine_without_a_driver_or_a_device_has_none(monkeypatch, tmp_path, script):
    if script:
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert usage.gpus() == {}
