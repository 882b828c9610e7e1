"""The units that S²FT chooses, by each score, and that a choice outlives a kill."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from tasks.core.weights import deltas
from tasks.core.weights.surgery import decoder_layers
from tasks.engine.forward import token_losses, use_packed_attention
from tasks.engine.training import checkpointing
from tasks.methods.selectors.s2ft import method as s2ft
from tasks.methods.selectors.s2ft.config import CUTS, S2ftConfig
from tasks.methods.selectors.s2ft.method import choose, pick
from tests import tiny as small
from tests.engine.training.test_train import FULL, PLAN, SEQUENCES, Killed, change, digest, train
from tests.methods import contract
from tests.methods.contract import part
from tests.methods.test_s2ft import PARAMS, chosen, model, target


def scored(tiny, score, subset="large", **ratios):
    found = model("llama", tiny)
    config = S2ftConfig(**{"v": 0, "o": 0, "u": 0, "d": 0} | ratios, score=score, subset=subset)
    return found, config


@torch.no_grad()
def scale(weight, where, by):
    weight[where] *= by


@pytest.mark.parametrize(("subset", "by"), [("large", 50.0), ("small", 0.01)])
def test_weight_goes_by_the_norm_of_the_slice(tiny, subset, by):
    found, params = scored(tiny, "weight", subset, v=0.5, o=0.25, u=0.001, d=0.001)
    layer = decoder_layers(found)[1]
    scale(layer.self_attn.o_proj.weight, (slice(None), slice(32, 48)), by)
    scale(layer.self_attn.v_proj.weight, slice(16, 32), by)
    scale(layer.mlp.up_proj.weight, 7, by)
    scale(layer.mlp.down_proj.weight, (slice(None), 9), by)
    index = {target(name): numbers for name, numbers in chosen(params, found).items() if ".1." in name}
    expected = {"o_proj": list(range(32, 48)), "v_proj": list(range(16, 32)), "up_proj": [7], "down_proj": [9]}
    assert index == expected


@pytest.mark.parametrize(("subset", "by"), [("large", 50.0), ("small", 0.001)])
def test_activation_goes_by_what_a_unit_reads_or_writes(tiny, subset, by):
    """A scaled row of up_proj scales what its channel of down_proj reads; head 2 of o_proj reads value head 1."""
    found, params = scored(tiny, "activation", subset, v=0.5, o=0.5, u=0.001, d=0.001)
    layer = decoder_layers(found)[1]
    scale(layer.mlp.up_proj.weight, 7, by)
    scale(layer.self_attn.v_proj.weight, slice(16, 32), by)
    index = {target(name): numbers for name, numbers in chosen(params, found).items() if ".1." in name}
    assert index == {"v_proj": list(range(16, 32)), "o_proj": list(range(32, 64)), "up_proj": [7], "down_proj": [7]}


def test_product_goes_by_both(tiny):
    """Channel 7 reads much and weighs nothing; channel 9 weighs much and reads nothing; channel 5 does both a little less."""
    for score, expected in {"activation": 7, "weight": 9, "product": 5}.items():
        found, params = scored(tiny, score, d=0.001)
        mlp = decoder_layers(found)[1].mlp
        for channel, reads, weighs in ((7, 50.0, 0.0), (9, 0.0, 50.0), (5, 20.0, 20.0)):
            scale(mlp.up_proj.weight, channel, reads)
            scale(mlp.down_proj.weight, (slice(None), channel), weighs)
        assert chosen(params, found)["model.layers.1.mlp.down_proj"] == [expected]


@pytest.mark.parametrize("subset", ["large", "small"])
def test_gradient_goes_by_the_norm_of_the_probes_gradient(tiny, subset):
    found, params = scored(tiny, "gradient", subset, v=0.5, o=0.25, u=0.001, d=0.001)
    other = model("llama", tiny).eval()
    token_losses(other, contract.probe().batches[0]).mean().backward()
    sign = 1 if subset == "large" else -1
    for name, index in chosen(params, found).items():
        grad = other.get_submodule(name).weight.grad
        grad = grad.T if CUTS[target(name)].form == "columns" else grad
        units = grad.split(16 if CUTS[target(name)].units else 1)
        best = max(range(len(units)), key=lambda n, units=units: sign * units[n].norm().item())
        assert index == list(range(best * len(units[0]), (best + 1) * len(units[0]))), name


def test_the_probes_gradient_is_that_of_all_its_batches(tiny):
    probed = model("llama", tiny).eval()
    batches = [contract.batch(2), contract.batch(3)]
    layers = [probed.model.layers[0].mlp.down_proj]
    (ours_U,) = s2ft.gradient_norms(probed, layers, "columns", 1, contract.looking(batches))
    torch.cat([token_losses(probed, row) for row in batches]).mean().backward()
    torch.testing.assert_close(ours_U, layers[0].weight.grad.norm(dim=0))


def test_of_one_batch_a_single_dense_gradient_is_in_memory_at_a_time(tiny):
    probed = model("llama", tiny).eval()
    layers = [layer.mlp.down_proj for layer in decoder_layers(probed)]
    beside = []

    def count(weight):
        beside.append(sum(layer.weight.grad is not None for layer in layers if layer.weight is not weight))

    hooks = [layer.weight.register_post_accumulate_grad_hook(count) for layer in layers]
    s2ft.gradient_norms(probed, layers, "columns", 1, contract.looking([contract.batch(2)]))
    assert beside == [0] * len(layers)
    assert all(parameter.grad is None for parameter in probed.parameters())
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize("score", ["activation", "gradient"])
def test_looking_leaves_no_trace(tiny, score):
    found, params = scored(tiny, score, d=0.1)
    found.train()
    choose(found, params, contract.probe(), 0)
    assert found.training
    assert all(p.grad is None for p in found.parameters())
    assert not any(module._forward_hooks for module in found.modules())


def test_only_layers_that_train_are_chosen_from(tiny):
    """As an expander leaves them: its copies train."""
    found = model("llama", tiny)
    decoder_layers(found)[0].requires_grad_(False)
    assert {name.split(".")[2] for name in chosen(PARAMS, found)} == {"1"}


@pytest.mark.parametrize("score", ["random", "weight", "activation", "product", "gradient"])
@pytest.mark.parametrize("spread", ["even", "flat"])
def test_a_shared_expert_has_its_share_of_its_own_channels(score, spread):
    """Layer 0 of this mixture is dense, with 64 channels; the shared experts of the others have 40."""
    experts = {"moe_intermediate_size": 24, "shared_expert_intermediate_size": 40, "num_experts": 4}
    sizes = {"num_hidden_layers": 3, "vocab_size": 259, "num_experts_per_tok": 2, "mlp_only_layers": [0], **experts}
    found = small.family("qwen2_moe", **sizes)
    use_packed_attention(found)
    expected = contract.losses(found)
    choose(found, S2ftConfig(v=0, o=0, u=0.25, d=0.25, score=score, spread=spread), contract.probe(), 0)
    torch.testing.assert_close(contract.losses(found), expected, rtol=0, atol=1e-5)
    counts = {"up_proj": [0, 0], "down_proj": [0, 0]}
    for name, layer in deltas.deltas(found).items():
        width = layer.out_features if layer.form == "rows" else layer.in_features
        assert layer.index.max() < width
        counts[name.rpartition(".")[2]][width == 40] += len(layer.index)
    assert counts == {"up_proj": [16, 20], "down_proj": [16, 20]}


def test_flat_takes_as_many_units_as_the_authors_code_to_the_last_one():
    """int(units * layers * ratio), in this order: 81 of SmolLM2-135M's 270 heads at 0.3, where 0.3 * 9 * 30 rounds down to 80."""
    assert int(0.3 * 9 * 30) == 80
    for units, layers in ((9, 30), (40, 40)):
        for percent in range(1, 100):
            found = pick(torch.rand(layers, units), percent / 100, "flat")
            assert sum(map(len, found)) == int(units * layers * (percent / 100))
    assert sum(map(len, pick(torch.rand(30, 9), 0.3, "flat"))) == 81


def test_small_has_no_meaning_for_random():
    with pytest.raises(ValueError, match="subset 'small' changes nothing about score 'random'"):
        S2ftConfig(subset="small")


def test_a_killed_run_ends_in_the_bytes_of_an_undisturbed_one(tiny, tmp_path):
    parts = replace(FULL, selector=part("selectors", "s2ft", score="gradient"))
    plan, few = change(PLAN, epochs=3), SEQUENCES[:12]
    straight, steps = train(tiny, tmp_path / "straight", parts, plan, few)
    with pytest.raises(Killed):
        train(tiny, tmp_path / "killed", parts, plan, few, kill_at=3)
    resumed, rest = train(tiny, tmp_path / "killed", parts, plan, few)
    assert rest == steps[2:]
    assert digest(resumed, tmp_path / "a") == digest(straight, tmp_path / "b")
    kept = load_file(tmp_path / "killed" / "checkpoint-4" / checkpointing.KEPT)
    layers = deltas.deltas(resumed.model)
    assert {name: index.tolist() for name, index in kept.items()} == {
        f"{name}.index": layer.index.tolist() for name, layer in layers.items()
    }


def test_a_choice_that_comes_out_otherwise_goes_on_with_that_of_the_checkpoint(tiny, tmp_path, monkeypatch):
    """As scores of equal size may, on another machine."""
    parts = replace(FULL, selector=part("selectors", "s2ft", score="gradient"))
    plan, few = change(PLAN, epochs=3), SEQUENCES[:12]
    straight, _ = train(tiny, tmp_path / "straight", parts, plan, few)
    with pytest.raises(Killed):
        train(tiny, tmp_path / "killed", parts, plan, few, kill_at=3)

    def of_inverse_weights(model, layers, form, width, probe):
        return s2ft.norms([1 / layer.weight for layer in layers], form, width)

    monkeypatch.setattr(s2ft, "gradient_norms", of_inverse_weights)
    resumed, _ = train(tiny, tmp_path / "killed", parts, plan, few)
    assert digest(resumed, tmp_path / "a") == digest(straight, tmp_path / "b")
