"""S²FT moves whole heads and whole channels as full fine-tuning would, and nothing else.

Its layer is held against the paper's equations, and against numbers that the authors' `s2ft/s2.py` gave
(`data/s2ft.json`). Whether it forgets less than LoRA takes trainings of minutes: `docs/claims/s2ft.json`.
"""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM

from tasks.core.weights import deltas
from tasks.core.weights.surgery import decoder_layers
from tasks.engine.forward import token_losses, use_packed_attention
from tasks.methods.selectors.s2ft.config import CUTS, S2ftConfig
from tasks.methods.selectors.s2ft.method import choose, pick
from tests.core.weights.test_deltas import kept
from tests.methods import contract
from tests.methods.official import frozen, same, wave

SMALL = {"v": 0.5, "o": 0.25, "u": 0.1, "d": 0.1}
REFUSES = {"lora": "adapter: none"}
PARAMS = S2ftConfig(**SMALL)


def trainable(model, params):
    """Σ over layers of hd · h for each head and h for each channel."""
    c = model.config
    width = c.hidden_size // c.num_attention_heads
    heads = sum(max(1, round(r * n)) for r, n in ((params.v, c.num_key_value_heads), (params.o, c.num_attention_heads)))
    channels = sum(max(1, round(r * c.intermediate_size)) for r in (params.u, params.d))
    return c.num_hidden_layers * (heads * width + channels) * c.hidden_size


def model(kind, tiny):
    found = contract.model(kind, tiny)
    use_packed_attention(found)
    return found


def chosen(params, found, seed=0):
    """What `choose` lets move: the indices by the layers' full names."""
    choose(found, params, contract.probe(), seed)
    return {name: layer.index.tolist() for name, layer in deltas.deltas(found).items()}


def target(name):
    """The layer's own name, the last of its full one."""
    return name.rpartition(".")[2]


def where(name, index):
    """What `index` stands for in this layer's weight."""
    return (slice(None), index) if CUTS[target(name)].form == "columns" else (index,)


def mask(name, index, weight):
    """Where the weight of this layer may move."""
    free = torch.zeros_like(weight, dtype=torch.bool)
    free[where(name, index)] = True
    return free


# Four ways of training the same slices, each as (parameters, before_step, after_step, end): the index form that is ours, and
# three that are written from the equations. `end` leaves plain weights in their own order.


def nothing():
    pass


def ours(found, index):
    choose(found, PARAMS, contract.probe(), 0)
    return [layer.delta for layer in deltas.deltas(found).values()], nothing, nothing, lambda: deltas.merge(found)


def masked(found, index):
    """Full fine-tuning whose gradient is cut to the slices."""
    layers = {name: found.get_submodule(name) for name in index}
    for name, layer in layers.items():
        layer.weight.requires_grad_(True)
        free = mask(name, index[name], layer.weight)
        layer.weight.register_hook(lambda grad, free=free: grad * free)
    return [layer.weight for layer in layers.values()], nothing, nothing, nothing


def in_place(found, index):
    """No delta: the optimizer sees the slice of the weight, and each step writes it back."""
    views, slices = [], []
    for name, numbers in index.items():
        weight = found.get_submodule(name).weight.requires_grad_(True)
        views.append((weight, where(name, numbers)))
        slices.append(nn.Parameter(weight.detach()[where(name, numbers)].clone()))

    def before():
        for part_of, (weight, place) in zip(slices, views, strict=True):
            part_of.grad, weight.grad = weight.grad[place], None

    @torch.no_grad()
    def after():
        for part_of, (weight, place) in zip(slices, views, strict=True):
            weight[place] = part_of

    return slices, before, after, nothing


class Range(nn.Module):
    """The paper's layer: W plus a trained s2 on the columns, or rows, from a to b."""

    def __init__(self, base, form, a, b):
        super().__init__()
        self.base, self.form, self.a, self.b = base, form, a, b
        shape = (base.out_features, b - a) if form == "columns" else (b - a, base.in_features)
        self.s2 = nn.Parameter(torch.zeros(shape))

    def forward(self, x):
        y = self.base(x)
        if self.form == "columns":
            return y + x[..., self.a : self.b] @ self.s2.T
        within = F.pad(x @ self.s2.T, (self.a, y.shape[-1] - self.b))
        return y + within


@torch.no_grad()
def permute(layer, config, channels, groups):
    """Put a decoder layer's channels and key-value groups, with their query heads, into this order, biases and all."""
    width = config.hidden_size // config.num_attention_heads
    shared = config.num_attention_heads // config.num_key_value_heads
    kv = [g * width + i for g in groups for i in range(width)]
    q = [(g * shared + n) * width + i for g in groups for n in range(shared) for i in range(width)]
    orders = {"q_proj": q, "k_proj": kv, "v_proj": kv, "up_proj": channels, "gate_proj": channels}
    for name, module in layer.named_modules():
        if order := orders.get(target(name)):
            module.weight.copy_(module.weight[order].clone())
            if module.bias is not None:
                module.bias.copy_(module.bias[order].clone())
    layer.self_attn.o_proj.weight.copy_(layer.self_attn.o_proj.weight[:, q].clone())
    layer.mlp.down_proj.weight.copy_(layer.mlp.down_proj.weight[:, channels].clone())
    return {"o_proj": q, "v_proj": kv, "up_proj": channels, "down_proj": channels}


def inverse(order):
    return torch.tensor(order).argsort().tolist()


def co_permuted(found, index):
    """The authors' form: weights are permuted until each slice is a range."""
    config, layers = found.config, decoder_layers(found)
    moved, orders = [], []
    for number, layer in enumerate(layers):
        own = {target(name): numbers for name, numbers in index.items() if f"layers.{number}." in name}
        up, down = set(own["up_proj"]), set(own["down_proj"])
        rest = set(range(config.intermediate_size)) - up - down
        channels = [*sorted(up - down), *sorted(up & down), *sorted(down - up), *sorted(rest)]
        first = own["v_proj"][0] // (config.hidden_size // config.num_attention_heads)
        groups = [first, *(g for g in range(config.num_key_value_heads) if g != first)]
        order = permute(layer, config, channels, groups)
        orders.append((channels, groups))
        for name, numbers in own.items():
            places = sorted(inverse(order[name])[n] for n in numbers)
            assert places == list(range(places[0], places[-1] + 1)), "the permutation is to make a range of it"
            parent = layer.mlp if name in ("up_proj", "down_proj") else layer.self_attn
            moved.append((parent, name, Range(getattr(parent, name), CUTS[name].form, places[0], places[-1] + 1)))
            setattr(parent, name, moved[-1][2])

    @torch.no_grad()
    def end():
        for parent, name, layer in moved:
            layer.base.weight[where(name, slice(layer.a, layer.b))] += layer.s2
            setattr(parent, name, layer.base)
        for layer, (channels, groups) in zip(layers, orders, strict=True):
            permute(layer, config, inverse(channels), inverse(groups))

    return [layer.s2 for _, _, layer in moved], nothing, nothing, end


def trajectory(way, kind, tiny, index, steps=20):
    """The weights after so many steps of AdamW without decay."""
    found = model(kind, tiny).train()
    found.requires_grad_(False)
    if way is ours:
        found.requires_grad_(True)
    parameters, before_step, after_step, end = way(found, index)
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, betas=(0.9, 0.95), weight_decay=0)
    for step in range(steps):
        optimizer.zero_grad()
        token_losses(found, contract.batch(step)).mean().backward()
        before_step()
        optimizer.step()
        after_step()
    end()
    return {name: p.detach() for name, p in found.named_parameters()}


@pytest.mark.parametrize("kind", contract.MODELS)
def test_every_form_takes_the_steps_of_full_fine_tuning_under_a_mask(tiny, kind):
    index, start = chosen(PARAMS, model(kind, tiny)), dict(model(kind, tiny).named_parameters())
    assert {target(name) for name in index} == set(CUTS)
    expected = trajectory(masked, kind, tiny, index)
    found = {way.__name__: trajectory(way, kind, tiny, index) for way in (ours, co_permuted, in_place)}
    for way, weights in found.items():
        for name, weight in weights.items():
            torch.testing.assert_close(
                weight, expected[name], rtol=0, atol=1e-5, msg=lambda m, n=name, w=way: f"{w} {n}: {m}"
            )
            layer = name.removesuffix(".weight")
            free = mask(layer, index[layer], weight) if layer in index else torch.zeros_like(weight, dtype=torch.bool)
            assert torch.equal(weight[~free], start[name][~free]), f"{way} moved {name} outside its slice"
    assert all(((expected[f"{n}.weight"] - start[f"{n}.weight"]).abs() > 1e-3).any() for n in index)


@pytest.mark.parametrize("kind", contract.MODELS)
def test_a_permutation_alone_changes_no_logit(tiny, kind):
    """The reference above would prove nothing if it did: grouped heads and biases have to follow."""
    found = model(kind, tiny)
    expected = contract.losses(model(kind, tiny))
    channels = torch.randperm(found.config.intermediate_size, generator=torch.Generator().manual_seed(0)).tolist()
    for layer in decoder_layers(found):
        permute(layer, found.config, channels, [1, 0])
    assert not torch.equal(
        found.model.layers[0].mlp.up_proj.weight, model(kind, tiny).model.layers[0].mlp.up_proj.weight
    )
    torch.testing.assert_close(contract.losses(found), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", contract.MODELS)
def test_a_fresh_choice_changes_no_logit(tiny, kind):
    found, expected = model(kind, tiny), contract.losses(model(kind, tiny))
    choose(found, PARAMS, contract.probe(), 0)
    torch.testing.assert_close(contract.losses(found), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", contract.MODELS)
def test_only_the_slices_have_gradients(tiny, kind):
    found = model(kind, tiny)
    choose(found, PARAMS, contract.probe(), 0)
    token_losses(found, contract.batch()).mean().backward()
    graded = {name for name, p in found.named_parameters() if p.grad is not None}
    assert graded == {name for name, p in found.named_parameters() if p.requires_grad}
    assert {target(name) for name in graded} == {"delta"}
    assert {target(name.removesuffix(".delta")) for name in graded} == set(CUTS)


@pytest.mark.parametrize("kind", contract.MODELS)
def test_merged_is_unmerged(tiny, kind):
    found = model(kind, tiny)
    choose(found, PARAMS, contract.probe(), 0)
    for layer in deltas.deltas(found).values():
        nn.init.normal_(layer.delta, std=0.02)
    expected = contract.losses(found)
    deltas.merge(found)
    torch.testing.assert_close(contract.losses(found), expected, rtol=0, atol=1e-6)
    assert found.state_dict().keys() == model(kind, tiny).state_dict().keys()


@pytest.mark.parametrize("form", ["columns", "rows"])
def test_a_layer_and_its_gradients_are_the_papers(form):
    """y = W x + s2 x[a:b] with dL/ds2 = Σ gᵀ x[a:b], or y[a:b] += s2 x with dL/ds2 = Σ g[a:b]ᵀ x; dL/dx = g (W + s2)."""
    torch.manual_seed(0)
    base, a, b = nn.Linear(7, 5).double(), 1, 4
    layer = deltas.DeltaLinear(base, form, torch.arange(a, b))
    nn.init.normal_(layer.delta)
    x, g = torch.randn(2, 3, 7, dtype=torch.double, requires_grad=True), torch.randn(2, 3, 5, dtype=torch.double)
    y = layer(x)
    y.backward(g)
    whole = base.weight.detach().clone()
    whole[(slice(None), slice(a, b)) if form == "columns" else slice(a, b)] += layer.delta.detach()
    read, written = (x[..., a:b], g) if form == "columns" else (x, g[..., a:b])
    torch.testing.assert_close(y, torch.einsum("bti,oi->bto", x, whole) + base.bias)
    torch.testing.assert_close(layer.delta.grad, torch.einsum("bto,bti->oi", written, read))
    torch.testing.assert_close(x.grad, torch.einsum("bto,oi->bti", g, whole))


@pytest.mark.parametrize("form", ["columns", "rows"])
def test_a_layer_its_gradients_and_its_merged_weight_are_those_of_the_official_code(form):
    """Columns are what S2RowLinear trains and rows what S2ColumnLinear does, each from 1 to 3."""
    base = nn.Linear(5, 4).double()
    base.weight.data, base.bias.data = wave(4, 5), wave(4, phase=1.0)
    layer = deltas.DeltaLinear(base, form, torch.arange(1, 3))
    layer.delta.data = wave(*layer.delta.shape, phase=2.0)
    x = wave(2, 3, 5, phase=3.0).requires_grad_()
    y = layer(x)
    y.backward(wave(2, 3, 4, phase=4.0))
    found = {"y": y, "s2_grad": layer.delta.grad, "x_grad": x.grad, "fused": layer.merged().weight}
    same(found, frozen("s2ft")[form], rtol=0, atol=1e-8)


def test_down_proj_keeps_its_share_of_the_activations(tiny):
    """About n / f of what the layer keeps when all of it trains."""
    found = model("llama", tiny)
    before, x = found.model.layers[0].mlp.down_proj, torch.randn(1, 50, 128, requires_grad=True)
    plain = kept(before, x)
    assert plain == x.nbytes
    choose(found, S2ftConfig(o=0, d=0.125), contract.probe(), 0)
    assert kept(found.model.layers[0].mlp.down_proj, x) == plain * 0.125


@pytest.mark.parametrize(
    ("sizes", "ratios", "expected"),
    [
        ((4096, 11008, 32, 32), {"o": 0.052, "d": 0.02}, 56_643_584),
        ((4096, 14336, 32, 8), {"o": 0.0, "d": 0.03}, 56_369_152),
    ],
    ids=["Llama-2-7B", "Llama-3-8B"],
)
def test_the_authors_models_train_as_many_numbers_as_in_their_runs(sizes, ratios, expected):
    """53 heads and 7045 channels of Llama-2-7B, 13762 channels of Llama-3-8B."""
    hidden, inner, heads, groups = sizes
    config = LlamaConfig(
        vocab_size=8,
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=32,
        num_attention_heads=heads,
        num_key_value_heads=groups,
    )
    with torch.device("meta"):
        found = LlamaForCausalLM(config)
    choose(found, S2ftConfig(spread="flat", **ratios), contract.probe(), 0)
    assert sum(p.numel() for p in found.parameters() if p.requires_grad) == expected


def test_the_defaults_train_about_one_percent_of_a_small_model():
    """Of SmolLM2-135M's shape: one head of nine and 31 of 1536 channels in each of 30 layers."""
    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        tie_word_embeddings=True,
    )
    with torch.device("meta"):
        found = LlamaForCausalLM(config)
    total = found.num_parameters()
    choose(found, S2ftConfig(), contract.probe(), 0)
    count = sum(p.numel() for p in found.parameters() if p.requires_grad)
    assert count == 30 * (64 + 31) * 576
    assert 0.005 < count / total < 0.015


def test_even_gives_every_layer_as_many_and_flat_the_best_of_all():
    scores = torch.tensor([[5.0, 6.0, 7.0, 8.0], [1.0, 2.0, 4.0, 3.0]])
    assert [units.tolist() for units in pick(scores, 0.5, "even")] == [[2, 3], [2, 3]]
    assert [units.tolist() for units in pick(scores, 0.5, "flat")] == [[0, 1, 2, 3], []]
    assert [units.tolist() for units in pick(scores, 0.01, "even")] == [[3], [2]], "at least one"
    assert [units.tolist() for units in pick(scores, 0.01, "flat")] == [[3], []]


def test_heads_are_whole_and_of_their_own_kind(tiny):
    """Four query heads and two key-value heads of 16: a unit is 16 columns of o_proj, 16 rows of v_proj."""
    for name, index in chosen(PARAMS, model("llama", tiny)).items():
        if target(name) in ("o_proj", "v_proj"):
            assert len(index) == 16
            assert index == list(range(index[0], index[0] + 16))
            assert index[0] % 16 == 0
            assert index[-1] < {"o_proj": 64, "v_proj": 32}[target(name)]


def test_random_is_a_function_of_the_seed_and_draws_from_no_shared_generator(tiny):
    state = torch.get_rng_state()
    first = chosen(PARAMS, model("llama", tiny))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(5)
    assert chosen(PARAMS, model("llama", tiny)) == first
    others = [chosen(PARAMS, model("llama", tiny), seed) for seed in range(1, 9)]
    assert first not in others
    heads = {index[0] // 16 for found in others for name, index in found.items() if target(name) == "o_proj"}
    assert heads == {0, 1, 2, 3}


# Channel 7 and query head 2 of layer 1 are given large weights, and what is behind them small ones or none.
