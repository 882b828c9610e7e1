"""NeuroAda moves the largest weights of every row as full fine-tuning would, and nothing else.

Choice, layer, gradients and merged weights are held against numbers of the authors' code (`data/neuroada.json`).
"""

from dataclasses import replace

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from tasks.core.weights import deltas
from tasks.core.weights.surgery import ALL_LINEAR, linears
from tasks.engine.forward import token_losses, use_packed_attention
from tasks.methods.selectors.neuroada import method as neuroada
from tasks.methods.selectors.neuroada.config import NeuroadaConfig
from tests.engine.training.test_train import FULL, PLAN, SEQUENCES, Killed, change, digest, train
from tests.methods import contract
from tests.methods.contract import part
from tests.methods.official import frozen, same, wave

SMALL = {"k": 2}
REFUSES = {"lora": "adapter: none"}


def trainable(model, params):
    """Σ over all linear layers of k times their rows."""
    return sum(min(params.k, layer.in_features) * layer.out_features for layer in linears(model, ALL_LINEAR).values())


def pick(weight, seed=0, **config):
    return neuroada.pick(weight, NeuroadaConfig(**config), torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", ["largest_1", "largest_3", "smallest_2", "all"])
def test_choice_layer_gradients_and_merged_weight_are_those_of_the_official_code(name):
    expected = frozen("neuroada")[name]
    base = nn.Linear(7, 5).double()
    base.weight.data, base.bias.data = wave(5, 7), wave(5, phase=1.0)
    order = "smallest" if name.startswith("smallest") else "largest"
    index = pick(base.weight, k=expected["k"], order=order)
    assert index.tolist() == expected["index"]
    layer = deltas.DeltaLinear(base, "entries", index)
    layer.delta.data = wave(len(index), phase=2.0)
    x = wave(2, 3, 7, phase=3.0).requires_grad_()
    y = layer(x)
    y.backward(wave(2, 3, 5, phase=4.0))
    same({"y": y, "delta_grad": layer.delta.grad, "x_grad": x.grad}, expected, rtol=0, atol=1e-8)
    same(layer.merged().weight, expected["merged"], rtol=0, atol=1e-8)


@pytest.mark.parametrize("order", ["largest", "smallest", "random"])
def test_every_row_has_as_many_entries_and_they_are_the_extreme_ones(order):
    weight = torch.randn(6, 9, generator=torch.Generator().manual_seed(1))
    free = torch.zeros(54, dtype=torch.bool).index_fill(0, pick(weight, k=3, order=order), True).view(6, 9)
    assert free.sum(dim=1).tolist() == [3] * 6
    if order == "largest":
        assert (weight.abs().where(free, torch.inf).amin(1) >= weight.abs().where(~free, 0.0).amax(1)).all()
    if order == "smallest":
        assert (weight.abs().where(free, 0.0).amax(1) <= weight.abs().where(~free, torch.inf).amin(1)).all()


def test_random_is_a_function_of_the_seed():
    weight = torch.ones(6, 9)
    drawn = [pick(weight, seed, k=3, order="random").tolist() for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize(
    ("hidden", "inner", "layers", "groups", "k", "expected"),
    [
        (4096, 11008, 32, 32, 1, 1_359_872),
        (4096, 14336, 32, 8, 1, 1_376_256),
        (576, 1536, 30, 3, 1, 155_520),
    ],
    ids=["LLaMA-7B", "Llama-3-8B", "SmolLM2-135M"],
)
def test_as_many_numbers_train_as_the_authors_publish(hidden, inner, layers, groups, k, expected):
    """The authors' shares, 0.020 % and 0.017 % of LLaMA-7B and Llama-3-8B; on paper, without weights."""
    heads = hidden // {576: 64}.get(hidden, 128)
    sizes = {"hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": layers}
    config = LlamaConfig(vocab_size=8, **sizes, num_attention_heads=heads, num_key_value_heads=groups)
    with torch.device("meta"):
        assert trainable(LlamaForCausalLM(config), NeuroadaConfig(k=k)) == expected


@pytest.mark.parametrize("kind", contract.MODELS)
def test_twenty_steps_are_those_of_full_fine_tuning_under_a_mask(tiny, kind):
    """In double precision, since Adam makes a full step of rounding where a gradient is next to nothing."""
    ours, full = (contract.model(kind, tiny, torch.float64) for _ in range(2))
    neuroada.choose(ours, NeuroadaConfig(k=2), contract.probe(), 0)
    layers = deltas.deltas(ours)
    for name, layer in layers.items():
        weight = full.get_submodule(name).weight
        free = torch.zeros(weight.numel()).index_fill(0, layer.index, 1.0).view_as(weight)
        weight.register_hook(lambda grad, free=free: grad * free)
    weights = [full.get_submodule(name).weight for name in layers]
    optimizers = [
        torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0)
        for parameters in ([layer.delta for layer in layers.values()], weights)
    ]
    for step in range(20):
        for model, optimizer in zip((ours, full), optimizers, strict=True):
            use_packed_attention(model)
            optimizer.zero_grad()
            token_losses(model, contract.batch(step)).mean().backward()
            optimizer.step()
    assert {name for name, p in ours.named_parameters() if p.grad is not None} == {f"{name}.delta" for name in layers}
    before = contract.model(kind, tiny, torch.float64)
    deltas.merge(ours)
    for (name, found), wanted in zip(ours.named_parameters(), full.parameters(), strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5, msg=name)
        moved = (found != before.get_parameter(name)).sum().item()
        layer = layers.get(name.removesuffix(".weight"))
        assert moved <= (0 if layer is None else len(layer.index)), name


def test_the_backward_pass_keeps_no_copy_of_a_weight(tiny):
    """A mask on the gradient keeps a gradient of every weight; the official layer keeps a changed copy of it."""
    layer = nn.Linear(64, 48)
    layer = deltas.DeltaLinear(layer, "entries", pick(layer.weight, k=1))
    x = torch.randn(2, 50, 64, requires_grad=True)
    own = {tensor.data_ptr() for tensor in (*layer.parameters(), *layer.buffers())}
    saved = {}
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: saved.update({} if t.data_ptr() in own else {t.data_ptr(): t.nbytes}) or t, lambda t: t
    ):
        y = layer(x)
    y.sum().backward()
    assert sum(saved.values()) == x.nbytes
    assert layer.weight.grad is None


def test_ties_that_break_otherwise_go_on_with_the_entries_of_the_checkpoint(tiny, tmp_path, monkeypatch):
    parts = replace(FULL, selector=part("selectors", "neuroada"))
    plan, few = change(PLAN, epochs=3), SEQUENCES[:12]
    straight, _ = train(tiny, tmp_path / "straight", parts, plan, few)
    with pytest.raises(Killed):
        train(tiny, tmp_path / "killed", parts, plan, few, kill_at=3)
    chosen = neuroada.pick
    monkeypatch.setattr(neuroada, "pick", lambda weight, config, draw: chosen(-1 / weight, config, draw))
    resumed, _ = train(tiny, tmp_path / "killed", parts, plan, few)
    assert digest(resumed, tmp_path / "a") == digest(straight, tmp_path / "b")
