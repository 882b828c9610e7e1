"""Two processes that share the packs of a step train what one process trains that takes them one after the other."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tasks.engine import compose
from tests.methods.contract import composition

ROOT = Path(__file__).resolve().parents[2]
TRAIN = """
import json, os, sys
from dataclasses import replace
from pathlib import Path
from safetensors.torch import save_file
from torch.distributed.fsdp import FSDPModule
from tasks.core.training import Training
from tasks.core.surgery import plain
from tasks.engine import scoring, train
from tests import tiny
from tests.methods.contract import composition, part

base, work, accumulation, names, kill_at, fsdp = sys.argv[1:]
compute = tiny.FP32.model_copy(update={"fsdp": bool(fsdp)})
plan = Training(pack_tokens=48, accumulation=int(accumulation), max_tokens=100_000, epochs=2, warmup=0.2, save_every=2)
parts = replace(composition(**json.loads(names)), optimizer=part("optimizers", "adamw", learning_rate=1e-2))
if hasattr(parts.adapter.params, "dropout"):  # what is dropped depends on how many draw
    parts = replace(parts, adapter=part("adapters", parts.adapter.name, dropout=0.0))
sequences = [replace(s, task="ab"[n % 2]) for n, s in enumerate(tiny.sequences(24, seed=4))]
steps = []

if fsdp:  # accelerate cuts no weights on CPUs, whatever it is told: let it take ours for GPUs
    from accelerate.state import PartialState
    from accelerate.utils import DistributedType

    start = PartialState.__init__

    def started(self, *args, **kwargs):
        start(self, *args, **kwargs)
        if self.distributed_type == DistributedType.MULTI_CPU:
            self.distributed_type = DistributedType.MULTI_GPU

    PartialState.__init__ = started

def on_step(step, total, loss, rate):
    steps.append(loss)
    if step == int(kill_at):
        os._exit(9)

def measure(model):
    assert isinstance(model, FSDPModule) == bool(fsdp and steps)  # before the first step nothing is cut
    return {"first": scoring.mean(scoring.losses(plain(model), sequences[:6]))}

outcome = train.train(tiny.load(base).train(), sequences, parts, plan, compute, Path(work), on_step, measure=measure)
if os.environ.get("RANK", "0") == "0":
    save_file({n: p.detach().contiguous() for n, p in outcome.attached.trainable.items()}, Path(work) / "end.safetensors")
    told = [loss for _, _, loss in outcome.losses] + [loss for _, loss in outcome.measured["first"]]
    (Path(work) / "told.json").write_text(json.dumps(told))
"""


def train(folder, base, processes, accumulation, kill_at=0, fsdp="", fails=False, **names):
    """The weights that training ends in, and the losses of its steps and of its checkpoints."""
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
    if kill_at or fails:
        assert done.returncode != 0
        return done.stderr
    assert done.returncode == 0, done.stderr[-4000:]
    return load_file(folder / "end.safetensors"), json.loads((folder / "told.json").read_text())


SHARED = {
    "full": {},
    "lora": {"adapters": "lora"},
    "mola": {"adapters": "mola"},
    "adept": {"expanders": "adept"},
    "s2ft × mftcoder": {"selectors": "s2ft", "objectives": "mftcoder"},
}


@pytest.mark.parametrize("names", SHARED.values(), ids=SHARED)
def test_two_processes_agree_with_one(tiny, tmp_path, names):
    one, losses = train(tmp_path / "one", tiny, 1, 2, **names)
    two, losses_of_two = train(tmp_path / "two", tiny, 2, 1, **names)
    assert losses_of_two == pytest.approx(losses, abs=1e-4)
    assert losses[len(losses) // 2] < losses[0]
    for name, found in two.items():
        torch.testing.assert_close(found, one[name], rtol=0, atol=1e-4, msg=name)


@pytest.mark.parametrize("names", [SHARED["full"], SHARED["lora"]], ids=["full", "lora"])
def test_two_processes_that_share_the_weights_agree_with_one(tiny, tmp_path, names):
    one, losses = train(tmp_path / "one", tiny, 1, 2, **names)
    two, losses_of_two = train(tmp_path / "two", tiny, 2, 1, fsdp="1", **names)
    assert losses_of_two == pytest.approx(losses, abs=1e-4)
    for name, found in two.items():
        torch.testing.assert_close(found, one[name], rtol=0, atol=1e-4, msg=name)


def test_two_processes_go_on_from_their_checkpoint(tiny, tmp_path):
    straight, losses = train(tmp_path / "straight", tiny, 2, 1, adapters="lora")
    train(tmp_path / "killed", tiny, 2, 1, kill_at=3, adapters="lora")
    resumed, losses_of_resumed = train(tmp_path / "killed", tiny, 2, 1, adapters="lora")
    assert losses_of_resumed == losses
    assert all(torch.equal(resumed[name], straight[name]) for name in straight)


def test_under_fsdp_it_does_not_go_on_and_says_what_would(tiny, tmp_path):
    train(tmp_path, tiny, 2, 1, kill_at=3, fsdp="1")
    said = train(tmp_path, tiny, 2, 1, fsdp="1", fails=True)
    assert "with compute.fsdp a training does not go on from a checkpoint" in said


@pytest.mark.parametrize(
    "names", [{"expanders": "adept"}, {"bases": "nf4", "adapters": "lora"}, {"optimizers": "mezo"}]
)
def test_what_fsdp_cannot_cut_is_refused(names, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"Several processes cannot share this training.*Set compute\.fsdp: false"):
        compose.check(composition(**names), fsdp=True)
