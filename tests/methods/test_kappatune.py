"""KappaTune trains the layers whose weights peft's helper finds to be of the lowest condition number."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft.helpers import find_kappa_target_modules
from peft.utils.integrations import dequantize_module_weight
from torch import nn

from tasks.core.weights.surgery import ALL_LINEAR, linears, owners
from tasks.io.weights import checkpoints
from tasks.methods.selectors.kappatune.config import KappatuneConfig
from tasks.methods.selectors.kappatune.method import ascending, choose, pick
from tests.methods import contract, deep

ROOT = Path(__file__).resolve().parents[2]
SMALL = {"share": 0.3}


def trainable(model, params):
    """Σ of the numbers of the weights that peft names."""
    chosen = find_kappa_target_modules(body(model), top_p=params.share, show_progress=False)["target_modules"]
    return sum(model.get_submodule(f"model.{name}").weight.numel() for name in chosen)


def body(model):
    """The model without its head, which peft's helper would choose from."""
    return model.model


def training(model):
    """The layers in which something trains."""
    return set(owners(model).values())


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5, 1.0])
@pytest.mark.parametrize("kind", contract.MODELS)
def test_the_ordered_layers_are_those_of_peft(tiny, kind, share):
    model = contract.model(kind, tiny)
    expected = find_kappa_target_modules(body(model), top_p=share, show_progress=False)["target_modules"]
    ordered = ascending(linears(model, ALL_LINEAR), 16384)
    chosen = pick(ordered, lambda name: (0, 0), KappatuneConfig(share=share), 0)
    assert chosen == [f"model.{name}" for name in expected]
    choose(model, KappatuneConfig(share=share), contract.probe(), 0)
    assert training(model) == set(chosen)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_kappa_is_the_ratio_of_singular_values_whatever_the_scale_and_the_side(scale):
    """Between κ = 9 and κ = 11 lies diag(1…10), as it is, scaled and transposed."""
    layers = {name: nn.Linear(10, 10, bias=False) for name in ("eleven", "ten", "nine")}
    for name, layer in layers.items():
        values = torch.linspace(1, {"nine": 9, "ten": 10, "eleven": 11}[name], 10)
        layer.weight.data = torch.diag(values) * (scale if name == "ten" else 1.0)
    assert ascending(layers, 16384) == ["nine", "ten", "eleven"]
    layers["ten"].weight.data = layers["ten"].weight.data.roll(1, 0).T
    assert ascending(layers, 16384) == ["nine", "ten", "eleven"]


def test_the_order_is_the_same_in_processes_of_other_hash_seeds(capsys):
    code = (
        "import torch; from torch import nn; from tasks.methods.selectors.kappatune.method import ascending; torch.manual_seed(0);"
        "print(ascending({f'layer {n}': nn.Linear(8, 8 + n % 3) for n in range(9)}, 100))"
    )
    exec(code, {})  # this process has a seed of its own
    here = capsys.readouterr().out
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "1"}
    there = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert here == there
    assert "layer 8" in here


def test_bf16_weights_give_the_order_of_fp32(tiny):
    orders = [ascending(linears(contract.model("llama", tiny, dtype), ALL_LINEAR), 16384) for dtype in contract.DTYPES]
    assert set(orders[0][:4]) == set(orders[1][:4])


def test_within_shape_takes_the_same_share_of_each_shape():
    """Twenty random matrices of two shapes: κ alone takes the rectangular ones, as the card says."""
    torch.manual_seed(0)
    layers = {
        f"{shape} {n}": nn.Linear(32, 32 if shape == "square" else 128)
        for n in range(10)
        for shape in ("square", "wide")
    }
    ordered = ascending(layers, 16384)

    def shape_of(name):
        return (layers[name].out_features, layers[name].in_features)

    plain = pick(ordered, shape_of, KappatuneConfig(share=0.2), 0)
    assert {name.split()[0] for name in plain} == {"wide"}
    even = pick(ordered, shape_of, KappatuneConfig(share=0.2, normalize="within_shape"), 0)
    assert sorted(name.split()[0] for name in even) == ["square", "square", "wide", "wide"]
    assert set(plain[:2]) <= set(even)


@pytest.mark.parametrize("order", ["highest", "random"])
@pytest.mark.parametrize("normalize", ["none", "within_shape"])
def test_controls_have_the_shapes_of_the_lowest(tiny, order, normalize):
    def shapes(**config):
        model = contract.model("llama", tiny)
        choose(model, KappatuneConfig(share=0.3, normalize=normalize, **config), contract.probe(), 3)
        return sorted(tuple(p.shape) for p in model.parameters() if p.requires_grad), training(model)

    lowest, chosen = shapes()
    control, others = shapes(order=order)
    assert control == lowest
    assert others != chosen
    if order == "random":
        model = contract.model("llama", tiny)
        choose(model, KappatuneConfig(share=0.3, normalize=normalize, order=order), contract.probe(), 4)
        assert training(model) != others, "another seed draws others"


@pytest.mark.parametrize("adapter", ["lora", "mola", "dora"])
def test_over_an_adapter_the_adapters_of_the_same_layers_train(tiny, adapter):
    plain = contract.model("llama", tiny)
    choose(plain, KappatuneConfig(share=0.3), contract.probe(), 0)
    parts = contract.composition(adapters=adapter, selectors="kappatune")
    attached, _ = contract.composed(contract.model("llama", tiny), parts)
    assert training(attached.model) == training(plain)
    assert all(".base" not in name for name in attached.trainable)


@pytest.mark.parametrize("base", ["int8", "nf4"])
def test_quantised_weights_are_compared_by_their_values(tiny, tmp_path, base):
    """Rows of very unlike scales, which int8 keeps beside its integers."""
    model = contract.model("llama", tiny)
    draw = torch.Generator().manual_seed(0)
    for layer in linears(model, ALL_LINEAR).values():
        layer.weight.data *= torch.logspace(0, 2 * torch.rand(1, generator=draw).item(), layer.out_features)[:, None]
    part = contract.part("bases", base)
    folder = shutil.copytree(tiny, tmp_path / "scaled")
    model.save_pretrained(folder)
    stored, _ = checkpoints.load(folder, quantization=part.method.quantization(part.config))
    layers = {name: layer for name, layer in stored.model.layers.named_modules() if isinstance(layer, nn.Linear)}
    kappas = {}
    for name, layer in layers.items():
        values = torch.linalg.svdvals(dequantize_module_weight(layer).float())
        kappas[name] = (values[0] / (values[-1] + 1e-8)).item()
    assert ascending(layers, 16384) == sorted(kappas, key=kappas.__getitem__)
    assert all(layer.weight.dtype in (torch.int8, torch.uint8) for layer in layers.values()), "as they were stored"


@pytest.mark.parametrize("base", ["int8", "nf4"])
@pytest.mark.parametrize("read_before", [True, False])
def test_a_quantised_model_computes_the_same_after_the_choice_and_learns(tiny, base, read_before):
    part = contract.part("bases", base)
    model, plain = (checkpoints.load(tiny, quantization=part.method.quantization(part.config))[0] for _ in range(2))
    expected = contract.losses(plain)
    if read_before:
        contract.losses(model)
    parts = contract.composition(bases=base, adapters="lora", selectors="kappatune")
    attached, optimizer = contract.composed(model, parts)
    assert torch.equal(contract.losses(attached.model), expected)
    assert contract.steps(attached, optimizer, parts, count=2) == set(attached.trainable)


def test_the_head_and_biases_never_train(tiny):
    model = deep.with_biases(contract.model("qwen2", tiny))
    choose(model, KappatuneConfig(share=1.0), contract.probe(), 0)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {f"{name}.weight" for name in linears(model, ALL_LINEAR)}


def test_larger_layers_are_left_out_and_no_layer_at_all_is_refused(tiny):
    model = contract.model("llama", tiny)
    choose(model, KappatuneConfig(share=1.0, largest=64), contract.probe(), 0)
    assert {name.rpartition(".")[2] for name in training(model)} == {"q_proj", "k_proj", "v_proj", "o_proj"}
    with pytest.raises(ValueError, match=r"at most kappatune\.largest, 8\. There is none"):
        choose(contract.model("llama", tiny), KappatuneConfig(largest=8), contract.probe(), 0)


def test_gpt2_has_no_linear_layer_and_is_refused(tiny):
    with pytest.raises(ValueError, match="selector 'kappatune' chooses among linear layers"):
        choose(contract.model("gpt2", tiny), KappatuneConfig(), contract.probe(), 0)


@pytest.mark.parametrize("share", [0.0, 1.1])
def test_a_share_of_nothing_or_of_more_than_all_is_refused(share):
    with pytest.raises(ValueError, match="share"):
        KappatuneConfig(share=share)
