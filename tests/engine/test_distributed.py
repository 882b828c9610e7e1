"""Two processes that share the packs of a step train what one process trains that takes them one after the other."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[2]
TRAIN = """
import json, os, sys
from dataclasses import replace
from pathlib import Path
from safetensors.torch import save_file
from tasks.core.training import Training
from tasks.engine import train
from tests import tiny
from tests.methods.contract import composition, part

base, work, accumulation, names, kill_at, fsdp = sys.argv[1:]
compute = tiny.FP32.model_copy(update={"fsdp": bool(fsdp)})
plan = Training(pack_tokens=48, accumulation=int(accumulation), max_tokens=100_000, epochs=2, warmup=0.2, save_every=2)
parts = replace(composition(**json.loads(names)), optimizer=part("optimizers", "adamw", learning_rate=1e-2))
sequences = [replace(s, task="ab"[n % 2]) for n, s in enumerate(tiny.sequences(24, seed=4))]
steps = []

def on_step(step, total, loss, rate):
    steps.append(loss)
    if step == int(kill_at):
        os._exit(9)

outcome = train.train(tiny.load(base).train(), sequences, parts, plan, compute, Path(work), on_step)
if os.environ.get("RANK", "0") == "0":
    save_file({n: p.detach().contiguous() for n, p in outcome.attached.trainable.items()}, Path(work) / "end.safetensors")
    (Path(work) / "steps.json").write_text(json.dumps(steps))
"""


def train(folder, base, processes, accumulation, kill_at=0, fsdp="", **names):
    """The weights and the losses that training ends in."""
    folder.mkdir(exist_ok=True)
    (folder / "script.py").write_text(TRAIN)
    launch = (
        ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)] if processes > 1 else []
    )
    command = [sys.executable, *launch, str(folder / "script.py"), str(base), str(folder)]
    done = subprocess.run(
        [*command, str(accumulation), json.dumps(names), str(kill_at), fsdp],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    if kill_at:
        assert done.returncode != 0
        return None
    assert done.returncode == 0, done.stderr[-4000:]
    return load_file(folder / "end.safetensors"), json.loads((folder / "steps.json").read_text())


@pytest.mark.parametrize("names", [{}, {"adapters": "lora"}], ids=["full", "lora"])
def test_two_processes_agree_with_one(tiny, tmp_path, names):
    one, losses = train(tmp_path / "one", tiny, 1, 2, **names)
    two, losses_of_two = train(tmp_path / "two", tiny, 2, 1, **names)
    assert losses_of_two == pytest.approx(losses, abs=1e-4)
    assert losses[-1] < losses[0] - 0.1
    for name, found in two.items():
        torch.testing.assert_close(found, one[name], rtol=0, atol=1e-4, msg=name)


def test_two_processes_that_share_the_weights_agree_with_one(tiny, tmp_path):
    one, losses = train(tmp_path / "one", tiny, 1, 2)
    two, losses_of_two = train(tmp_path / "two", tiny, 2, 1, fsdp="1")
    assert losses_of_two == pytest.approx(losses, abs=1e-4)
    for name, found in two.items():
        torch.testing.assert_close(found, one[name], rtol=0, atol=1e-4, msg=name)
