"""CoFiTune trains the modules of a band, and rows of important units by a smaller share of their step.

Importance, its normal form and the mask of gradients are held against numbers of the authors' code (`data/cofitune.json`).
"""

import random
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from tasks.core.training import Probe
from tasks.core.weights import deltas
from tasks.core.weights.surgery import decoder_layers
from tasks.engine.forward import token_losses, use_packed_attention
from tasks.engine.training import compose
from tasks.methods.selectors.cofitune import method
from tasks.methods.selectors.cofitune.config import CofituneConfig
from tasks.methods.selectors.cofitune.importance import ROWS, divergence_grads_, importance, normalised, of_rows
from tasks.methods.selectors.cofitune.method import band, choose, tiled
from tests.methods import contract, deep
from tests.methods.contract import part
from tests.methods.official import frozen, same, wave

SMALL = {"band": (0.5, 1.0), "dropout": 0.1}
REFUSES = {"lora": "adapter: none"}
MODULES = {"channels": "mlp.up_proj", "outputs": "mlp.down_proj"}
ROWS_OF_OFFICIAL = [[1, 4, 2, 9, 3], [7, 0, 5, 10, 6, 8, 2]]
"""Tokens of the two batches that the official code was given."""


def trainable(model, params):
    """Layers of the band times 2 H I."""
    layers = band(model.config.num_hidden_layers, params)
    return len(layers) * 2 * model.config.hidden_size * model.config.intermediate_size


def model(layers=4, dtype=torch.float32):
    made = deep.llama(layers)
    use_packed_attention(made)
    return made.to(dtype)


def chosen(found, **config):
    choose(found, CofituneConfig(**config), contract.probe(), 0)
    return deltas.deltas(found)


def test_shares_are_of_decimal_numbers():
    assert band(100, CofituneConfig(band=(0.29, 0.57))) == range(29, 57)  # 100 * 0.29 is 28.999999999999996


@pytest.mark.parametrize(("depth", "layers"), [(32, (8, 15)), (40, (10, 19)), (60, (15, 29))])
def test_the_band_is_that_of_the_authors_script(depth, layers):
    numbers = band(depth, CofituneConfig())
    assert (numbers[0], numbers[-1]) == layers


def looked_at_as_by_the_official_code(monkeypatch):
    """The importance of the units of a LLaMA whose weights no generator draws, by either batch and by both, {batches: {kind: (L, U)}}.

    Instead of dropout there is a factor of each number, another one in the second pass.
    """
    sizes = {"vocab_size": 11, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2}
    found = LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=2, attn_implementation="eager"))
    for number, (_, parameter) in enumerate(sorted(found.named_parameters())):
        if parameter.ndim == 2:
            parameter.data = wave(*parameter.shape, phase=0.1 * number).float()
    seeds = {random.Random(f"0/{batch}/{half}").getrandbits(63): half for batch in range(2) for half in range(2)}

    def factors(x, p=0.5, training=True, inplace=False):
        return x * (1 + 0.1 * wave(*x.shape, phase=x.ndim + seeds[torch.initial_seed()]).to(x.dtype))

    monkeypatch.setattr(F, "dropout", factors)
    batches = [{"input_ids": torch.tensor([row])} for row in ROWS_OF_OFFICIAL]
    named = {"first": batches[:1], "second": batches[1:], "both": batches}
    probes = {
        name: Probe(some, pytest.fail, lambda wrapped, row: wrapped(**row, use_cache=False).logits[0])
        for name, some in named.items()
    }
    looks = {name: importance(found, [0, 1], probe, 0.003, seed=0) for name, probe in probes.items()}
    return {
        name: {kind: torch.stack([look[number][kind] for number in (0, 1)]) for kind in look[0]}
        for name, look in looks.items()
    }


def test_importance_of_a_batch_is_that_of_the_official_code(monkeypatch):
    expected = frozen("cofitune")
    found = looked_at_as_by_the_official_code(monkeypatch)
    for name in ("first", "second"):
        same(found[name], expected[name], rtol=1e-3, atol=1e-7)


def test_every_batch_counts_alike_and_in_the_official_code_the_first_of_two_twice(monkeypatch):
    """Its gradient of a multiplier is not set back between batches."""
    both = looked_at_as_by_the_official_code(monkeypatch)["both"]
    expected, (first, second) = frozen("cofitune"), map(len, ROWS_OF_OFFICIAL)
    tokens = first + second
    for kind, units in both.items():
        sums = {name: torch.tensor(expected[name][kind]) for name in ("first", "second", "both")}
        of_first, of_second = first * sums["first"], second * sums["second"]
        torch.testing.assert_close(tokens * units, of_first + of_second, rtol=1e-3, atol=1e-6)
        torch.testing.assert_close(tokens * sums["both"], 2 * of_first + of_second, rtol=1e-3, atol=1e-6)


def test_normal_form_and_tiled_mask_are_those_of_the_official_code():
    expected = frozen("cofitune")
    for kind, layers in expected["both"].items():
        for units, s in zip(layers, expected["normalised"][kind], strict=True):
            same(normalised(torch.tensor(units)), s, atol=1e-5)
    share = 1 - torch.tensor(expected["normalised"]["channels"][0])
    gradient = wave(12, 8, phase=1.0).float()
    same(gradient * tiled(share, gradient), expected["masked"])


def divergence(found, seed, dropout):
    """0.1 KL per token of two passes whose dropout is drawn by the seed."""
    seen, probe = [], contract.probe()

    def logits(wrapped, batch):
        seen.append(probe.logits(wrapped, batch))
        return seen[-1].clone()  # which the gradients overwrite

    importance(found, [1], replace(probe, logits=logits), dropout, seed)
    first, second, *again = seen
    assert all(map(torch.equal, (first, second), again)), "with the same dropout"
    assert not torch.equal(first, second)
    return 0.1 * F.kl_div(first.log_softmax(-1), second.softmax(-1), reduction="sum").item() / len(first)


@torch.no_grad()
def scale(found, kind, unit, by):
    """Multiply a unit by scaling the weights that write or read it."""
    layer = decoder_layers(found)[1]
    if kind == "heads":
        width = layer.self_attn.head_dim
        layer.self_attn.o_proj.weight[:, unit * width : (unit + 1) * width] *= by
    else:
        layer.get_submodule(MODULES[kind]).weight[unit] *= by


@pytest.mark.parametrize("kind", ["channels", "outputs", "heads"])
def test_importance_is_the_change_of_the_divergence_with_a_units_multiplier(kind):
    """By differences: a unit's weights are scaled a little up and down, under the same dropout."""
    dropout, step = 0.2, 1e-2  # norms compute in fp32, whose noise a smaller step would show
    found = importance(model(dtype=torch.float64), [1], contract.probe(), dropout, seed=3)[1][kind]
    units = [0, 3] if kind == "heads" else [0, 5, 17]
    for unit in units:
        values = []
        for by in (1 + step, 1 - step):
            scaled = model(dtype=torch.float64)
            scale(scaled, kind, unit, by)
            values.append(divergence(scaled, 3, dropout))
        assert found[unit].item() == pytest.approx((values[0] - values[1]) / (2 * step), rel=0.03, abs=3e-6)
    assert (found != 0).sum() >= len(found) - 1


def test_without_dropout_no_unit_is_important_and_looking_leaves_no_trace():
    found = model().train()
    decoder_layers(found)[0].eval()
    modes = [module.training for module in found.modules()]
    state, expected = torch.get_rng_state(), contract.losses(model())
    measured = importance(found, [0, 1], contract.probe(), 0.0, seed=0)
    dropped = importance(model(), [0, 1], contract.probe(), 0.1, seed=0)
    for number, kinds in measured.items():
        for kind, units in kinds.items():
            assert units.abs().max() < 1e-4 * dropped[number][kind].abs().max()
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in found.modules()] == modes
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in found.modules())
    assert {layer.self_attn.attention_dropout for layer in decoder_layers(found)} == {0.0}
    assert not any("forward" in vars(layer) for layer in decoder_layers(found))
    assert all(parameter.requires_grad for parameter in found.parameters())
    assert all(parameter.grad is None for parameter in found.parameters())
    torch.testing.assert_close(contract.losses(found), expected, rtol=0, atol=0)


def test_multipliers_of_1_without_dropout_leave_the_logits_of_the_model():
    found, probe, seen = model(), contract.probe(), []

    def noted(wrapped, batch):
        logits = probe.logits(wrapped, batch)
        seen.append(logits.detach().clone())  # their place is used again
        return logits

    importance(found, [0, 1], replace(probe, logits=noted), 0.0, seed=0)
    assert len(seen) == 4 * len(list(probe.batches)), "two passes, each made twice"
    with torch.no_grad():
        expected = [probe.logits(model(), batch) for batch in probe.batches for _ in range(4)]
    for logits, plain in zip(seen, expected, strict=True):
        torch.testing.assert_close(logits, plain, rtol=0, atol=1e-5)


def test_magnitudes_of_batches_are_summed_where_they_are_asked_for():
    """By tokens: each batch alone, whose gradients have signs of their own, and both."""
    first, second = contract.batch(2), contract.batch(3)
    probe = contract.probe()

    def of(*batches, **options):
        looked = importance(model(), [1], contract.looking(batches), 0.1, 0, **options)[1]["channels"]
        return looked, sum(len(probe.logits(model(), batch)) for batch in batches)

    both, tokens = of(first, second, absolute=True)
    signed, _ = of(first, second)
    alone, of_first = of(first)
    rest = signed * tokens - alone * of_first
    torch.testing.assert_close(both * tokens, (alone * of_first).abs() + rest.abs(), rtol=1e-3, atol=1e-6)
    assert not torch.allclose(both, signed.abs(), rtol=1e-3), "some signs differ"


def test_a_layers_input_alone_is_kept_for_going_backward():
    """What a pass of two layers keeps, in numbers: by layer one input, and what the head and the last norm keep."""
    found, probe, kept = model(), contract.probe(), []

    def logits(wrapped, batch):
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor: kept.append(tensor.numel()) or tensor, lambda tensor: tensor
        ):
            return probe.logits(wrapped, batch)

    importance(found, [0, 1], replace(probe, logits=logits), 0.1, seed=0)
    tokens, width = probe.batches[0]["input_ids"].numel(), found.config.hidden_size
    assert max(kept) <= tokens * max(width, found.config.vocab_size)
    assert sum(number >= tokens * width for number in kept) < 20, "far from what a layer's products keep"


@pytest.mark.parametrize("rows", [3, ROWS, ROWS + 1, 2 * ROWS + 5])
def test_the_gradients_of_the_divergence_are_those_of_all_rows_together(rows):
    draw = torch.Generator().manual_seed(0)
    first, second = (torch.randn(rows, 40, generator=draw, requires_grad=True) for _ in range(2))
    whole = 0.1 * F.kl_div(first.log_softmax(-1), second.softmax(-1), reduction="sum")
    for ours, expected in zip(
        divergence_grads_(first.detach().clone(), second.detach().clone()),
        torch.autograd.grad(whole, (first, second)),
        strict=True,
    ):
        torch.testing.assert_close(ours, expected)


def test_normalising_forgets_a_positive_scale_and_a_shift():
    units = torch.randn(50, generator=torch.Generator().manual_seed(0))
    s = normalised(units)
    torch.testing.assert_close(normalised(3 * units - 7), s, rtol=0, atol=1e-5)
    assert 0 <= s.min() <= s.max() < 1
    expected = torch.tanh((units - units.mean()) / units.std(unbiased=True)).abs()
    torch.testing.assert_close(s, expected)


def test_rows_have_the_s_of_their_unit_and_grouped_heads_the_largest():
    s = {"channels": torch.rand(6), "outputs": torch.rand(8), "heads": torch.tensor([0.1, 0.4, 0.3, 0.2])}
    assert torch.equal(of_rows(s, "model.layers.0.mlp.up_proj", 6, 2), s["channels"])
    assert torch.equal(of_rows(s, "model.layers.0.mlp.down_proj", 8, 2), s["outputs"])
    queries = of_rows(s, "model.layers.0.self_attn.q_proj", 8, 2)
    assert queries.tolist() == pytest.approx([0.1, 0.1, 0.4, 0.4, 0.3, 0.3, 0.2, 0.2])
    assert of_rows(s, "model.layers.0.self_attn.k_proj", 4, 2).tolist() == pytest.approx([0.4, 0.4, 0.3, 0.3])


def trained(found, steps=1, optimizer=torch.optim.AdamW):
    """The changes of the weights after a few steps."""
    before = {name: layer.weight.detach().clone() for name, layer in weights(found).items()}
    stepper = optimizer([p for p in found.parameters() if p.requires_grad], lr=1e-3, weight_decay=0)
    for step in range(steps):
        stepper.zero_grad()
        token_losses(found, contract.batch(step)).mean().backward()
        stepper.step()
    deltas.merge(found)
    return {name: layer.weight.detach() - before[name] for name, layer in weights(found).items()}


def weights(found):
    return {name: module for name, module in found.named_modules() if isinstance(module, torch.nn.Linear)}


CONFIG = {"band": (0.25, 0.75), "dropout": 0.1}


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.SGD])
def test_a_row_moves_by_its_share_of_the_step_and_nothing_else_moves(optimizer):
    """Under SGD by its square: both the difference and its effect are scaled."""
    found, coarse = model(dtype=torch.float64), model(dtype=torch.float64)
    shares = {name: layer.scale.clone() for name, layer in chosen(found, **CONFIG).items()}
    assert chosen(coarse, **CONFIG, mask="none") == {}
    moved, plain = trained(found, optimizer=optimizer), trained(coarse, optimizer=optimizer)
    assert {name for name, change in moved.items() if change.any()} == set(shares)
    assert set(shares) == {f"model.layers.{n}.mlp.{module}" for n in (1, 2) for module in ("up_proj", "down_proj")}
    for name, share_O in shares.items():
        assert 0 < share_O.min() < 0.5 < share_O.max() <= 1
        expected = (share_O if optimizer is torch.optim.AdamW else share_O**2)[:, None] * plain[name]
        torch.testing.assert_close(moved[name], expected, rtol=1e-3, atol=2e-5)


def test_masking_gradients_does_nothing_under_adam():
    """The first step is that of the coarse choice, however important a unit is."""
    found, coarse = model(dtype=torch.float64), model(dtype=torch.float64)
    layers = chosen(found, **CONFIG, mask="official_tiled")
    masks = {name: layer.mask.clone() for name, layer in layers.items()}
    choose(coarse, CofituneConfig(**CONFIG, mask="none"), contract.probe(), 0)
    moved, plain = trained(found), trained(coarse)
    for name in layers:
        sizable = (plain[name].abs() > 0.99e-3) & (masks[name] > 0.1)
        assert (masks[name][sizable] < 0.5).float().mean() > 0.1
        torch.testing.assert_close(moved[name][sizable], plain[name][sizable], rtol=0.02, atol=0)


def test_the_official_layout_is_misaligned():
    """Entry r I + c has the factor of unit (r I + c) mod U."""
    mask = tiled(torch.arange(6.0), torch.zeros(6, 4))
    assert mask[0].tolist() == [0, 1, 2, 3]
    assert mask[1].tolist() == [4, 5, 0, 1]
    assert mask.flatten().tolist() == [float(n % 6) for n in range(24)]


def test_no_importance_is_the_coarse_choice(monkeypatch):
    """And a unit of the largest never moves."""
    found, coarse = model(dtype=torch.float64), model(dtype=torch.float64)
    s = torch.zeros(48)
    monkeypatch.setattr(method, "normalised", lambda units: s.index_fill(0, torch.tensor([3]), 1.0)[: len(units)])
    layers = chosen(found, **CONFIG)
    choose(coarse, CofituneConfig(**CONFIG, mask="none"), contract.probe(), 0)
    moved, plain = trained(found), trained(coarse)
    for name, change in plain.items():
        others = [row for row in range(len(change)) if row != 3 or name not in layers]
        torch.testing.assert_close(moved[name][others], change[others], rtol=0, atol=1e-6)
        assert name not in layers or not moved[name][3].any()


def test_importance_is_a_function_of_the_seed():
    def scales(seed):
        found = model()
        choose(found, CofituneConfig(**CONFIG), contract.probe(), seed)
        return [layer.scale.tolist() for layer in deltas.deltas(found).values()]

    assert scales(0) == scales(0) != scales(1)


def test_heads_and_modules_without_units_train_too():
    found = model()
    layers = chosen(found, **CONFIG, modules=("q_proj", "v_proj", "o_proj"))
    assert {name.rpartition(".")[2] for name in layers} == {"q_proj", "v_proj"}
    plain = {name for name, p in found.named_parameters() if p.requires_grad and not name.endswith("delta")}
    assert plain == {f"model.layers.{n}.self_attn.o_proj.weight" for n in (1, 2)}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"band": (0.5, 0.5)}, "band is 0.5 to 0.5, and must rise between 0 and 1"),
        ({"band": (0.5, 1.5)}, "band is 0.5 to 1.5"),
        ({"modules": ()}, "modules"),
    ],
)
def test_settings_that_cannot_be_are_refused(config, message):
    with pytest.raises(ValueError, match=message):
        CofituneConfig(**config)


@pytest.mark.parametrize("optimizer", ["mezo", "zo2"])
def test_a_mask_of_gradients_is_refused_where_there_are_none(optimizer):
    parts = contract.composition(selectors="cofitune", optimizers=optimizer)
    compose.check(parts)
    masked = replace(parts, selector=part("selectors", "cofitune", mask="official_tiled"))
    with pytest.raises(ValueError, match=f"selector 'cofitune' works with .* optimizer '{optimizer}' has none"):
        compose.check(masked)


def test_a_band_without_a_layer_is_refused(tiny):
    parts = replace(contract.composition(), selector=part("selectors", "cofitune", band=(0.0, 0.3)))
    with pytest.raises(
        ValueError, match=r"cofitune\.band 0 to 0\.3 of 2 layers holds none whose up_proj, down_proj train"
    ):
        contract.composed(contract.model("llama", tiny), parts)


@pytest.mark.parametrize(("family", "modules"), [("phi3", ("down_proj",)), ("starcoder2", ("q_proj",))])
def test_units_are_measured_in_layers_that_have_these_alone(family, modules):
    torch.manual_seed(1)
    config = AutoConfig.for_model(family, **deep.SIZES, num_hidden_layers=4, pad_token_id=None)
    model = AutoModelForCausalLM.from_config(config)
    chosen = replace(contract.composition(), selector=part("selectors", "cofitune", modules=modules))
    attached, _ = contract.composed(model, chosen)
    assert attached.trainable


def test_layers_without_what_dropout_goes_into_are_refused_by_name():
    model = deep.llama(4)
    for layer in model.model.layers:
        del layer.self_attn.attention_dropout
    with pytest.raises(ValueError, match=r"LlamaDecoderLayer has no self_attn\.attention_dropout.* Set `mask: none`"):
        importance(model, [1], contract.probe(), 0.1, seed=0)
