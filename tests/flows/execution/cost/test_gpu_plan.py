"""What a plan says of GPUs that are not at hand follows from their data sheets, the tokens and the shape of the model."""

import json
import re
from pathlib import Path

import pytest

from flows.execution.cost import estimates, gpu_plan
from flows.execution.cost.estimates import MB, SPREAD
from tasks.core import speed

ROOT = Path(__file__).resolve().parents[4]
FULL = {"  adapter: lora\n": "  adapter: none\n"}
START = estimates._start(gpu_plan.speed(speed.GPUS["H100"]))
CHECKPOINTED = {"  save_every: 50\n": "  activation_checkpointing: true\n  save_every: 50\n"}


@pytest.fixture
def planned(tmp_path):
    """A function that returns the estimate of a stage of profile `gpu-7b` on H100s."""

    def estimate(compute="processes: 1", changes=None, gpu="H100", stage="tune@r0"):
        text = (ROOT / "params/gpu-7b.yaml").read_text()
        text = re.sub(r"compute: \{.*\}", f"compute: {{device: cuda, precision: bf16, threads: 8, {compute}}}", text)
        for old, new in (changes or {}).items():
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "params.yaml").write_text(text)
        return estimates.on_gpus([stage], gpu)[stage]

    return estimate


def middle(estimate):
    return (estimate.seconds.low * estimate.seconds.high) ** 0.5


def test_time_is_that_of_the_products_at_the_assumed_share_of_the_peak(planned):
    seconds = middle(planned()) - START
    products = 5 * 7e9 * 2e6 / (gpu_plan.TRAINS * 989e12)  # 5 for each weight and token: the base is frozen
    assert products < seconds < 1.5 * products, "validations come on top"
    assert planned().source == "data sheet"
    four = middle(planned("processes: 4")) - START
    assert four == pytest.approx(seconds / (4 * gpu_plan.SCALES), rel=0.05)
    slower = middle(planned(gpu="A100")) - START
    assert slower == pytest.approx(seconds * 989 / 312, rel=0.05)
    assert planned().seconds.high == pytest.approx(planned().seconds.low * SPREAD**2)


def test_memory_is_that_of_each_gpu_and_fsdp_shares_it(planned):
    def gigabytes(*arguments):
        memory = planned(*arguments).memory_mb
        return memory.low * MB / 1e9, memory.high * MB / 1e9

    frozen, alone = gigabytes(), gigabytes("processes: 1", FULL)
    assert 28 < frozen[0] < frozen[1] < 80
    assert alone[0] > 16 * 7 * 0.85, "weights, gradients and two moments in fp32"
    assert gigabytes("processes: 8", FULL) == alone, "DDP: each holds all"
    shared = gigabytes("processes: 8, fsdp: true", FULL)
    assert shared[1] < 80
    checkpointed = gigabytes("processes: 8, fsdp: true", FULL | CHECKPOINTED)
    assert checkpointed[1] < shared[1]


def composed(**names):
    """Changes that put methods into `tune` of profile `gpu-7b`."""
    text = (ROOT / "params/gpu-7b.yaml").read_text()
    tune = before = text[text.index("\ntune:\n") : text.index("  max_tokens: 2000000")]
    for family, name in names.items():
        tune = re.sub(rf"  {family}: \w+\n", f"  {family}: {name}\n", tune)
    sections = "".join(f"\n  {name}: {{}}" for name in names.values() if name != "none")
    return {before: tune, "\nmethods:": f"\nmethods:{sections}"}


@pytest.mark.parametrize(
    ("names", "least", "most"),
    [
        ({"adapter": "none", "optimizer": "mezo"}, 22, 48),  # weights alone, in fp32: 28 GB
        ({"adapter": "none", "optimizer": "zo2"}, 5, 20),  # some layers of them
        ({"base": "nf4"}, 22, 46),  # 20 GB that layers keep, and weights of 3 GB beside embeddings in fp32
    ],
)
def test_memory_is_that_of_the_methods(planned, names, least, most):
    memory = planned(changes=composed(**names)).memory_mb
    assert least < memory.low * MB / 1e9 < memory.high * MB / 1e9 < most


def test_a_selector_trains_between_none_and_all_of_the_weights(planned):
    memory, whole = (
        planned(changes=composed(adapter="none", selector="lisa")).memory_mb,
        planned(changes=FULL).memory_mb,
    )
    assert 28 * 0.85 < memory.low * MB / 1e9 < 60
    assert memory.high == whole.high


def test_a_training_without_gradients_takes_the_time_of_its_passes(planned):
    plain = {"adapter": "none", "optimizer": "mezo"}
    one = middle(planned(changes=composed(**plain))) - START
    assert one == pytest.approx(4 * 7e9 * 2e6 / (gpu_plan.READS * 989e12), rel=0.25)
    changes = composed(**plain)
    many = middle(planned(changes=changes | {"\nmethods:": "\nmethods:\n  mezo: {directions: 4}"})) - START
    assert many == pytest.approx(4 * one, rel=0.25)


def test_a_stage_that_passes_the_model_through_takes_nothing_of_a_gpu(planned):
    assert planned(stage="pretrain").memory_mb is None, "its max_tokens are 0"
    assert planned(stage="compress").memory_mb is None, "its compressor is none"
    assert planned(stage="evaluate@r0").memory_mb.low * MB == pytest.approx(2 * 7e9)
    in_fp32 = planned("processes: 1", {"precision: bf16": "precision: fp32"}, stage="evaluate@r0")
    assert in_fp32.memory_mb.low * MB == pytest.approx(4 * 7e9)


def test_the_name_of_a_gpu_may_tell_its_memory():
    assert gpu_plan.gpu("NVIDIA A100-SXM4-40GB").gigabytes == 40
    assert gpu_plan.gpu("NVIDIA H100 80GB HBM3").gigabytes == gpu_plan.gpu("H100").gigabytes == 80


def test_a_gpu_that_nobody_knows_is_answered_with_those_that_are_known(planned):
    with pytest.raises(ValueError, match=r"--gpu GTX: no figures are known of it\. There are: B200, .*A100"):
        planned(gpu="GTX")
    assert speed.gpu("NVIDIA A100-SXM4-80GB").gigabytes == 80


def test_the_command_tells_gpus_and_what_does_not_fit(workspace):
    text = (ROOT / "params/gpu-7b.yaml").read_text().replace("  adapter: lora\n", "  adapter: none\n")
    workspace.path("params.yaml").write_text(text)
    workspace.path("dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    done = workspace.run("flows.commands", "plan", "--gpu", "H100")
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())
    assert re.search(
        r"tune@r0: \d+–\d+ GB do not fit into the 80 GB of a H100\. More processes with compute\.fsdp", said
    )
    assert "a GPU's data sheet and assumed shares of its peak: nothing of it was measured" in said
    report = json.loads(workspace.run("flows.commands", "plan", "--gpu", "H100", "--json").stdout)
    (tune,) = (stage for stage in report["stages"] if stage["stage"] == "tune@r0")
    assert tune["estimate"]["source"] == "data sheet"
    workspace.path("params.yaml").write_text(
        text.replace("precision: bf16", "precision: fp32").replace("Coder-7B", "Coder-32B")
    )
    said = " ".join(workspace.run("flows.commands", "plan", "--gpu", "H100").stdout.split())
    assert re.search(r"evaluate@r0: \d+–\d+ GB do not fit into the 80 GB of a H100\. (?!More)", said)
    assert "Times are those of bf16, and compute.precision is fp32" in said
    refused = workspace.run("flows.commands", "plan", "--gpu", "GTX")
    assert refused.returncode == 1
    assert "There are: B200" in refused.stderr
