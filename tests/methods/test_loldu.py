"""LoLDU trains r numbers of the diagonal of W = P L diag(d) U."""

import pytest
import torch
from torch.nn import functional as F

from tasks.core import surgery
from tasks.engine import store
from tasks.io import checkpoints
from tasks.methods.adapters import loldu
from tasks.methods.adapters.loldu import LolduParams, attach, factor, initial, merge
from tests import tiny as small
from tests.methods import contract

SMALL = {"rank": 8, "alpha": 256.0}
INITS = ["uniform", "s_uniform", "normal", "s_normal", "constant", "ones", "zeros"]
SHAPES = [(20, 12), (12, 20), (16, 16)]


def trainable(model, params):
    """r for every layer that is large enough."""
    layers = surgery.linears(model, params.targets).values()
    return sum(min(params.rank, m.in_features, m.out_features) for m in layers)


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def make_layer(shape=(20, 12), rank=5, bias=True, **settings):
    """An adapted layer whose z has moved, and the weight that it was made from."""
    torch.manual_seed(0)
    base = torch.nn.Linear(shape[1], shape[0], bias=bias)
    params = LolduParams(rank=rank, **settings)
    weight = base.weight.detach().clone()
    layer = loldu.layer_type()(base, factor(weight, rank), params)
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
    settings = {"rank": 5, "alpha": 3.0}
    layer, weight = make_layer(shape, bias=bias, **settings)
    x = noise(7, shape[1], seed=1)
    expected = F.linear(x, dense(layer, weight, settings).float(), layer.base.bias)
    assert not torch.allclose(expected, layer.base(x), atol=1e-2), "z has not moved"
    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(layer.merge()(x), expected, rtol=1e-5, atol=1e-5)


def test_the_gradient_of_z_is_the_papers():
    layer, weight = make_layer(alpha=3.0)
    x, g = noise(7, 12, seed=1), noise(7, 20, seed=2)
    layer(x).backward(g)
    p, lower, upper = torch.linalg.lu(weight)
    left, right = (p @ lower)[:, :5], (upper / upper.diagonal()[:, None])[:5]
    expected = torch.stack([3 / 5 * sum((g[t] @ left[:, i]) * (right[i] @ x[t]) for t in range(7)) for i in range(5)])
    torch.testing.assert_close(layer.z_R.grad, expected, rtol=1e-4, atol=1e-5)


def test_only_z_takes_a_gradient(tiny):
    model = attach(small.load(tiny), LolduParams(**SMALL, targets="all-linear"))
    names = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert names == {f"{name}.z_R" for name in surgery.linears(small.load(tiny), "all-linear")}


@pytest.mark.parametrize("init", INITS)
def test_with_another_start_the_model_is_not_the_base(tiny, init):
    fresh = attach(small.load(tiny), LolduParams(**SMALL, init=init))
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


def test_pivots_are_the_same_however_the_same_numbers_are_stored():
    weight = noise(64, 64).bfloat16()
    for found, wanted in zip(factor(weight, 64), factor(weight.float(), 64), strict=True):
        assert torch.equal(found, wanted)


def test_z_stays_exact_over_a_base_in_bf16(tiny):
    model = attach(small.load(tiny).bfloat16(), LolduParams(**SMALL))
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
        attach(model, LolduParams(**SMALL))


def test_a_rank_above_a_layer_is_refused_by_its_name(tiny):
    with pytest.raises(ValueError, match=r"rank 10000 is above model\.layers\.0\.self_attn\.v_proj.*take at most"):
        attach(small.load(tiny), LolduParams(rank=10_000))


def test_gpt2_whose_layers_are_no_linear_layers_is_refused():
    with pytest.raises(ValueError, match=r"GPT2LMHeadModel has no nn\.Linear in its decoder layers"):
        attach(small.gpt2(), LolduParams(rank=8, targets=("c_attn",)))


def test_a_saved_adapter_is_z_and_nothing_else(tiny, tmp_path):
    from safetensors.torch import load_file

    parts = contract.composition(adapters="loldu")
    attached, optimizer = contract.composed(small.load(tiny), parts)
    contract.steps(attached, optimizer, parts)
    expected = contract.losses(attached.model)
    store.save(attached, parts, None, tmp_path / "saved")
    tensors = load_file(tmp_path / "saved/adapter.safetensors")
    assert {name.rpartition(".")[2] for name in tensors} == {"z_R"}
    assert sum(tensor.numel() for tensor in tensors.values()) == trainable(small.load(tiny), parts.adapter.params)
    loaded, _ = checkpoints.load(tmp_path / "saved", tiny)
    torch.testing.assert_close(contract.losses(loaded), expected, rtol=0, atol=1e-5)


def test_merging_leaves_no_trace(tiny):
    merged = merge(attach(small.load(tiny), LolduParams(**SMALL)))
    assert not any(isinstance(module, loldu.layer_type()) for module in merged.modules())
    for (name, found), wanted in zip(merged.named_parameters(), small.load(tiny).parameters(), strict=True):
        assert torch.equal(found, wanted), name


@pytest.mark.parametrize("wrong", [{"rank": 0}, {"alpha": 0}, {"init": "kaiming"}, {"rnak": 4}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LolduParams(**wrong)
