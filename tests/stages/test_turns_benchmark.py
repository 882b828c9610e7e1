"""The benchmark of turns runs as it is written, on a random model: two rounds of two arms, kept, and taken to the ledger's form; seeds also on a cluster."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests import ray_nodes

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import loop  # noqa: E402  # as a script of its folder

NAMES = ["base", "r0", "learnable r1", "uniform r1"]


@pytest.fixture
def profile(tmp_path):
    """The default profile with few tasks and tokens."""
    values = yaml.safe_load((ROOT / "params/reasoning.yaml").read_text())
    values["compute"] = {"device": "cpu", "precision": "fp32", "threads": 1}
    values["ingest"]["sources"] = [
        {"from": "reasoning-gym", "size": 24, "tasks": {"chain_sum": {"max_terms": 2}, "spell_backward": {}}}
    ]
    values["ingest"]["corpora"] |= {"max_chars": 60_000, "general": [{"from": "topics"}]}
    values["tune"] |= {"max_tokens": 600, "pack_tokens": 256, "valid_tokens": 100}
    values["diagnose"]["probes"] = {"each": 3, "max_new_tokens": 4, "batch_size": 6}
    values["evaluate"] |= {"max_new_tokens": 4}
    path = tmp_path / "few.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_two_rounds_are_measured_once_and_each_arm_from_the_same_first_round(
    tiny, profile, tmp_path, monkeypatch, capsys
):
    arguments = ["loop.py", "7", "--profile", str(profile), "--base", str(tiny), "--rounds", "2"]
    monkeypatch.setattr(sys, "argv", [*arguments, "--arms", "learnable", "uniform"])
    loop.main()
    said = capsys.readouterr().out
    figures = json.loads((tmp_path / ".ratchet/compare/loop/figures.json").read_text())
    assert [row["composition"] for row in figures] == NAMES
    by_name = {row["composition"]: row for row in figures}
    assert len({row["items"] for row in figures}) == 1
    assert by_name["base"]["steps"] == 0 < by_name["r0"]["steps"]
    examples = {name: sum(by_name[name]["examples"].values()) for name in NAMES}
    assert examples["learnable r1"] == examples["uniform r1"] == examples["r0"] + round(1.5 * examples["r0"])
    for name in NAMES[1:]:
        assert by_name[name]["tokens"] == pytest.approx(600, rel=0.5)
    for line in ("r0: accuracy", "  less base: ", "uniform r1: accuracy", "  less learnable r1: "):
        assert f"\n{line}" in said
    assert len({row["settings"].partition("-")[0] for row in figures}) == 1

    monkeypatch.setattr(loop.Bench, "trial", lambda *_: pytest.fail("it trained again"))
    monkeypatch.setattr(loop.Bench, "answered", lambda *_: pytest.fail("it asked again"))
    loop.main()
    assert json.loads((tmp_path / ".ratchet/compare/loop/figures.json").read_text()) == figures


SCRIPT = """
from functools import cache

from side_by_side import of_seeds, run_main
from tasks.core.compute import Compute

@cache
def base():
    return 40

def main():
    print(*of_seeds(lambda seed: base() + seed, [1, 2], Compute(threads=1)))

if __name__ == "__main__":
    run_main(__file__)
"""


def test_seeds_side_by_side_on_a_cluster_have_the_figures_of_this_machine(tiny, profile, tmp_path):
    def run(folder, variables):
        folder.mkdir()
        command = [sys.executable, str(ROOT / "benchmarks/loop.py"), "7", "8", "--rounds", "1", "--name", "apart"]
        command += ["--profile", str(profile), "--base", str(tiny)]
        done = subprocess.run(command, cwd=folder, env=os.environ | variables, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads((folder / ".ratchet/compare/apart/figures.json").read_text()), done.stdout

    with ray_nodes.cluster() as cluster:
        ray_nodes.with_two_nodes(cluster)
        there, said = run(tmp_path / "there", {"RATCHET_RAY": cluster.address})
        (tmp_path / "cached.py").write_text(SCRIPT)
        shutil.copy(ROOT / "benchmarks/side_by_side.py", tmp_path)
        variables = {"RATCHET_RAY": cluster.address}
        command = [sys.executable, str(tmp_path / "cached.py")]
        assert subprocess.check_output(command, env=os.environ | variables, text=True) == "41 42\n"
    here, said_here = run(tmp_path / "here", {})
    assert there == here
    assert {row["seed"] for row in here} == {7, 8}
    assert "/7/r0: 0." in said_here
    assert "/7/r0: 0." not in said  # which is told where it is measured
