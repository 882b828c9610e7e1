"""LoLDU trains r numbers of the diagonal of W = P L diag(d) U.

What it computes is held against the paper's equations on torch's own factors, and against numbers that the authors'
`minloldu/loldu.py` gave (`data/loldu.json`).
"""

import copy
import random

import pytest
import torch
from numpy.random import RandomState
from torch.nn import functional as F

from tasks.core.sequences import Encoded
from tasks.core.training import Start
from tasks.core.weights import surgery
from tasks.engine.forward import use_packed_attention
from tasks.engine.packing import Pack, collate
from tasks.engine.training import store
from tasks.io.weights import checkpoints
from tasks.methods.adapters.loldu import method as loldu
from tasks.methods.adapters.loldu.config import LolduConfig
from tasks.methods.adapters.loldu.method import attach, factor, initial, merge
from tasks.methods.adapters.vera import method as vera
from tests import tiny as small
from tests.methods import contract, deep
from tests.methods.official import frozen, same, wave

SMALL = {"rank": 8, "alpha": 256.0}
INITS = ["uniform", "s_uniform", "normal", "s_normal", "constant", "ones", "zeros"]
SHAPES = [(20, 12), (12, 20), (16, 16)]


def trainable(model, params):
    """r for every layer that is large enough."""
    layers = surgery.linears(model, params.targets).values()
    return sum(min(params.rank, m.in_features, m.out_features) for m in layers)


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def make_layer(shape=(20, 12), rank=5, bias=True, **config):
    """An adapted layer whose z has moved, and the weight that it was made from."""
    torch.manual_seed(0)
    base = torch.nn.Linear(shape[1], shape[0], bias=bias)
    loldu_config = LolduConfig(rank=rank, **config)
    weight = base.weight.detach().clone()
    layer = loldu.LolduLinear(base, factor(weight, rank), loldu_config)
    with torch.no_grad():
        layer.z_R += noise(len(layer.z_R), seed=3)
    return layer, weight


def dense(layer, weight, params):
    """W_res + s P L_r diag(z) U_r as the paper writes it, from torch's own factors, in float64."""
    p, lower, upper = torch.linalg.lu(weight.double())
    r, d = len(layer.z_R), upper.diagonal()
    directions = p @ lower[:, :r], (upper / d[:, None])[:r]
    scale = params["alpha"] / params["rank"]
    residual = weight.double() - scale * directions[0] @ torch.diag(d[:r]) @ directions[1]
    return residual + scale * directions[0] @ torch.diag(layer.z_R.detach().double()) @ directions[1]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_factors_make_up_the_weight(shape):
    weight = noise(*shape)
    pl, d, u = factor(weight, rank=99)
    assert len(d) == min(shape)
    torch.testing.assert_close(pl @ torch.diag(d) @ u, weight.double(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rank", [1, 5, 12])
def test_the_factors_are_the_first_of_the_whole_decomposition(shape, rank):
    weight = noise(*shape)
    p, lower, upper = torch.linalg.lu(weight.double())
    pl, d, u = factor(weight, rank)
    torch.testing.assert_close(pl, (p @ lower)[:, :rank])
    torch.testing.assert_close(d, upper.diagonal()[:rank])
    torch.testing.assert_close(u, (upper / upper.diagonal()[:, None])[:rank])
    unpermuted = p.T @ pl
    assert torch.equal(unpermuted[:rank].triu(), torch.eye(rank, dtype=torch.double)), "L is unit lower"
    torch.testing.assert_close(u[:, :rank].tril(), torch.eye(rank, dtype=torch.double)), "U is unit upper"


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_computes_the_papers_dense_product(shape, bias):
    config = {"rank": 5, "alpha": 3.0}
    layer, weight = make_layer(shape, bias=bias, **config)
    x = noise(7, shape[1], seed=1)
    expected = F.linear(x, dense(layer, weight, config).float(), layer.base.bias)
    assert not torch.allclose(expected, layer.base(x), atol=1e-2), "z has not moved"
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(layer.merge()(x), expected, rtol=1e-5, atol=1e-5)


def test_the_gradient_of_z_is_the_papers():
    layer, weight = make_layer(alpha=3.0)
    x, g = noise(7, 12, seed=1), noise(7, 20, seed=2)
    layer(x).backward(g)
    p, lower, upper = torch.linalg.lu(weight)
    left, right = (p @ lower)[:, :5], (upper / upper.diagonal()[:, None])[:5]
    expected = torch.stack([3 / 5 * sum((g[t] @ left[:, i]) * (right[i] @ x[t]) for t in range(7)) for i in range(5)])
    torch.testing.assert_close(layer.z_R.grad, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5)])
def test_the_factors_are_those_of_the_official_decomposition(shape):
    expected = frozen("loldu")["factors"]["x".join(map(str, shape))]
    pl, d, u = factor(wave(*shape, phase=0.3), rank=99)
    same({"PL": pl, "D": d, "U": u}, expected, rtol=0, atol=1e-7)


def official_layer():
    """The linear layer that the official module was put on, in ours: rank 3, alpha 2."""
    base = torch.nn.Linear(6, 4)
    base.weight.data = wave(4, 6, phase=0.3, dtype=torch.float32)
    base.bias.data = wave(4, phase=1.0, dtype=torch.float32)
    config = LolduConfig(rank=3, alpha=2.0)
    return loldu.LolduLinear(base, factor(base.weight, 3), config)


def test_a_layer_its_gradient_and_its_merged_weight_are_those_of_the_official_module():
    layer, x = official_layer(), wave(2, 6, phase=2.0, dtype=torch.float32)
    start, z = layer(x), layer.z_R.detach().clone()
    layer.z_R.data += wave(3, phase=3.0, dtype=torch.float32)
    y = layer(x)
    y.backward(wave(2, 4, phase=4.0, dtype=torch.float32))
    found = {"start": start, "z": z, "y": y, "z_grad": layer.z_R.grad, "merged": layer.merge().weight}
    same(found, frozen("loldu")["layer"], rtol=1e-5, atol=1e-5)


def test_the_starts_are_as_wide_as_the_official_ones():
    """What is drawn depends on torch; the bounds and the deviation that it is drawn with were noted."""
    expected, found = frozen("loldu")["starts"], {}
    d = official_layer().d_R
    for init in expected:
        torch.manual_seed(0)
        found[init] = initial(d, init)
    for init in ("constant", "ones", "zeros"):
        same(found[init], expected[init])
    torch.manual_seed(0)
    low, high = expected["uniform"]["a"], expected["uniform"]["b"]
    torch.testing.assert_close(found["uniform"], low + (high - low) * torch.rand(3))
    torch.manual_seed(0)
    mean, deviation = expected["normal"]["mean"], expected["normal"]["std"]
    torch.testing.assert_close(found["normal"], mean + deviation * torch.randn(3))


def test_only_z_takes_a_gradient(tiny):
    model = attach(small.load(tiny), LolduConfig(**SMALL, targets="all-linear"), Start())
    names = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert names == {f"{name}.z_R" for name in surgery.linears(small.load(tiny), "all-linear")}


@pytest.mark.parametrize("init", INITS)
def test_with_another_start_the_model_is_not_the_base(tiny, init):
    fresh = attach(small.load(tiny), LolduConfig(**SMALL, init=init), Start())
    assert not torch.allclose(contract.losses(fresh), contract.losses(small.load(tiny)), atol=1e-3)


def test_the_starts_are_drawn_as_the_code_draws_them():
    d = torch.tensor([1.0, -2.0, 7.0]).repeat(4000)  # mean 2, deviation sqrt(14)
    torch.manual_seed(0)
    starts = {init: initial(d, init) for init in ["lu", *INITS]}
    assert torch.equal(starts["lu"], d)
    assert starts["uniform"].abs().max() <= 1
    assert starts["s_uniform"].abs().max() <= 1
    expected = {
        "uniform": (0, 1 / 3**0.5),  # in ± mean / 2
        "s_uniform": (0, 1 / 3**0.5),
        "normal": (2, 14**0.5),
        "s_normal": (0, 1),
        "constant": (2, 0),
        "ones": (1, 0),
        "zeros": (0, 0),
    }
    for init, (mean, deviation) in expected.items():
        assert starts[init].mean() == pytest.approx(mean, abs=0.1), init
        assert starts[init].std() == pytest.approx(deviation, abs=0.05), init


def test_random_directions_are_triangles_as_long_as_those_of_the_weight():
    weight = noise(20, 12)
    pl, _, u = factor(weight, 5)
    lower, upper = loldu.random_triangles(pl, u, RandomState(0))
    assert torch.equal(lower, lower.tril())
    assert torch.equal(upper, upper.triu())
    torch.testing.assert_close(lower.norm(dim=0), pl.norm(dim=0))
    torch.testing.assert_close(upper.norm(dim=1), u.norm(dim=1))
    again, _ = loldu.random_triangles(pl, u, RandomState(0))
    assert torch.equal(again, lower)


def test_with_random_directions_the_model_is_still_the_base_and_every_layer_has_its_own(tiny):
    model = attach(small.load(tiny), LolduConfig(**SMALL, directions="random"), Start())
    assert torch.equal(contract.losses(model), contract.losses(small.load(tiny)))
    first, second = (model.get_submodule(f"model.layers.{n}.self_attn.q_proj") for n in (0, 1))
    assert not torch.allclose(first.u_RI, second.u_RI)
    others = attach(small.load(tiny), LolduConfig(**SMALL), Start()).get_submodule("model.layers.0.self_attn.q_proj")
    assert not torch.allclose(first.u_RI, others.u_RI)


def rows(rule, seed, count=16):
    """Sequences of 24 numbers below 40, in which each follows from the one before by `rule`, nine times in ten."""
    draw = random.Random(seed)

    def sequence(number):
        ids = [draw.randrange(40)]
        while len(ids) < 24:
            ids.append(rule(ids[-1]) if draw.random() < 0.9 else draw.randrange(40))
        return Encoded(f"{number}", ids, [0.0] + [1.0] * 23)

    return collate([Pack(tuple(map(sequence, range(count))))])


def taught(model, rule, rate, seeds):
    """`model`, trained by AdamW on one batch for each seed, and its loss on sequences that it has not seen."""
    use_packed_attention(surgery.plain(model))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=rate, weight_decay=0)
    for seed in seeds:
        contract.token_losses(surgery.plain(model), rows(rule, seed)).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        return model, contract.token_losses(surgery.plain(model), rows(rule, 9999, 64)).mean().item()


def test_as_many_numbers_along_the_weights_directions_along_random_ones_and_in_vera_all_learn():
    """Which of them is best is a finding, told in the method's docstring, and no promise: a better LoLDU would be no fault."""
    base, known = taught(deep.llama(2), lambda x: (3 * x + 1) % 40, 3e-3, range(150))
    assert known < 1
    config = {
        "lu": (LolduConfig(rank=16, alpha=16, targets="all-linear"), loldu, 0.02),
        "random": (LolduConfig(rank=16, alpha=16, targets="all-linear", directions="random"), loldu, 0.02),
        "vera": (vera.VeraConfig(rank=24, targets=("o_proj", "down_proj")), vera, 0.1),
    }
    found = {}
    for name, (params, method, rate) in config.items():
        model = method.attach(copy.deepcopy(base), params, Start())
        assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 224
        _, found[name] = taught(model, lambda x: (7 * x + 5) % 40, rate, range(1000, 1060))
    assert max(found.values()) < 3.2, "5.8 before"
    assert len(set(found.values())) == 3, "two of them are the same method"


def test_pivots_are_the_same_however_the_same_numbers_are_stored():
    weight = noise(64, 64).bfloat16()
    for found, wanted in zip(factor(weight, 64), factor(weight.float(), 64), strict=True):
        assert torch.equal(found, wanted)


def test_z_stays_exact_over_a_base_in_bf16(tiny):
    model = attach(small.load(tiny).bfloat16(), LolduConfig(**SMALL), Start())
    layer = model.get_submodule("model.layers.0.self_attn.q_proj")
    assert layer.z_R.dtype is torch.float32
    assert {layer.pl_OR.dtype, layer.u_RI.dtype} == {torch.bfloat16}
    assert layer(torch.ones(1, layer.base.in_features).bfloat16()).dtype is torch.bfloat16


@pytest.mark.parametrize(("column", "remedy"), [(3, "Set rank to 3 or less"), (0, "Leave it out of")])
def test_a_layer_with_noise_for_a_pivot_is_refused_by_name(tiny, column, remedy):
    model = small.load(tiny)
    weight = model.model.layers[1].self_attn.v_proj.weight.data
    weight[:] = weight.bfloat16()  # so that the sum below is exact, and what is left of the pivot is rounding alone
    weight[:, column] = weight[:, 1] + weight[:, 2] if column else 0
    with pytest.raises(
        ValueError, match=rf"layers\.1\.self_attn\.v_proj cannot be factored.*column {column} .*{remedy}"
    ):
        attach(model, LolduConfig(**SMALL), Start())


def test_a_rank_above_a_layer_is_refused_by_its_name(tiny):
    with pytest.raises(ValueError, match=r"rank 10000 is above model\.layers\.0\.self_attn\.v_proj.*take at most"):
        attach(small.load(tiny), LolduConfig(rank=10_000), Start())


def test_gpt2_whose_layers_are_no_linear_layers_is_refused():
    with pytest.raises(ValueError, match=r"GPT2LMHeadModel has no nn\.Linear in its decoder layers"):
        attach(small.gpt2(), LolduConfig(rank=8, targets=("c_attn",)), Start())


def test_a_saved_adapter_is_z_and_nothing_else(tiny, tmp_path):
    from safetensors.torch import load_file

    parts = contract.composition(adapters="loldu")
    attached, optimizer = contract.composed(small.load(tiny), parts)
    contract.steps(attached, optimizer, parts)
    expected = contract.losses(attached.model)
    store.save(attached, parts, None, tmp_path / "saved")
    tensors = load_file(tmp_path / "saved/adapter.safetensors")
    assert {name.rpartition(".")[2] for name in tensors} == {"z_R"}
    assert sum(tensor.numel() for tensor in tensors.values()) == trainable(small.load(tiny), parts.adapter.config)
    loaded, _ = checkpoints.load(tmp_path / "saved", tiny)
    torch.testing.assert_close(contract.losses(loaded), expected, rtol=0, atol=1e-6)


def test_z_is_refused_over_a_base_with_other_weights(tiny, tmp_path):
    parts = contract.composition(adapters="loldu")
    attached, _ = contract.composed(small.load(tiny), parts)
    store.save(attached, parts, None, tmp_path / "saved")
    checkpoints.write_card(tmp_path / "saved", parent=checkpoints.weights_digest(tiny))
    checkpoints.load(tmp_path / "saved", tiny)
    other = small.load(tiny)
    other.model.layers[0].mlp.up_proj.weight.data[0, 0] += 1e-3
    other.save_pretrained(tmp_path / "other")
    checkpoints.load_tokenizer(tiny).save_pretrained(tmp_path / "other")
    checkpoints.write_card(tmp_path / "other")
    with pytest.raises(ValueError, match=r"was trained on weights .*Name the base it was trained on"):
        checkpoints.load(tmp_path / "saved", tmp_path / "other")


def test_merging_leaves_no_trace(tiny):
    merged = merge(attach(small.load(tiny), LolduConfig(**SMALL), Start()))
    assert not any(isinstance(module, loldu.LolduLinear) for module in merged.modules())
    for (name, found), wanted in zip(merged.named_parameters(), small.load(tiny).parameters(), strict=True):
        assert torch.equal(found, wanted), name


@pytest.mark.parametrize("wrong", [{"rank": 0}, {"alpha": 0}, {"init": "kaiming"}, {"rnak": 4}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LolduConfig(**wrong)
