"""Bi-LoRA trains matrices of 2^b values; its card's checks 1 to 6.

Levels, layer, gradient and bytes are held against numbers of the authors' `QLinear` (`data/binadapter.json`).
"""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from flows.experiments import recipes
from tasks.core.training import Start
from tasks.core.weights import levels, surgery
from tasks.methods.adapters._binary import Branch
from tasks.methods.adapters.binadapter.config import BinadapterConfig
from tasks.methods.adapters.binadapter.method import BinadapterLinear, adapted, attach, finish
from tests import tiny as small
from tests.methods import contract
from tests.methods.official import frozen, same, wave

SMALL = {"rank": 4, "scale": 30.0, "dropout": 0.0}
BITS = [1, 2, 4]


def trainable(model, config):
    """The sum over all adapted layers of r (in + out)."""
    return sum(config.rank * sum(layer.weight.shape) for layer in surgery.linears(model, config.targets).values())


@pytest.fixture(params=BITS)
def bits(request):
    return request.param


def official(bits):
    return frozen("binadapter")[str(bits)]


def weight():
    """The matrix that the authors' layer was given."""
    return 0.3 * wave(6, 8, dtype=torch.float32) + 0.05


def test_levels_are_the_official_ones(bits):
    same(levels.codebook(bits)[0], official(bits)["codebook"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_levels_are_medians_of_their_cells_and_edges_lie_in_the_middle(bits):
    medians, edges = levels.codebook(bits)
    normal = torch.distributions.Normal(torch.tensor(0.0).double(), 1.0)
    shares = torch.cat([torch.zeros(1), normal.cdf(edges), torch.ones(1)])
    torch.testing.assert_close(edges, (medians[1:] + medians[:-1]) / 2, rtol=0, atol=1e-12)
    torch.testing.assert_close(normal.cdf(medians), (shares[1:] + shares[:-1]) / 2, rtol=0, atol=1e-11)
    torch.testing.assert_close(medians, -medians.flip(0), rtol=0, atol=1e-11)


def test_one_bit_errs_less_in_the_mean_than_the_level_of_least_squares():
    x = torch.special.ndtri((torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000)
    (level,) = levels.codebook(1)[0][1:].tolist()
    assert level == pytest.approx(0.67449, abs=1e-5)
    assert (x.abs() - level).abs().mean().item() == pytest.approx(0.4732, abs=1e-4)
    assert (x.abs() - 0.79788).abs().mean().item() == pytest.approx(0.4826, abs=1e-4)


def test_a_matrix_its_output_and_its_gradient_are_those_of_the_official_layer(bits):
    matrix, x = nn.Parameter(weight()), wave(5, 8, phase=1.0, dtype=torch.float32)
    used = levels.quantised(matrix, bits)
    y = F.linear(x, used)
    (y * wave(5, 6, phase=3.0, dtype=torch.float32)).sum().backward()
    expected = official(bits)
    same({"used": used, "y": y, "gradient": matrix.grad}, expected, rtol=1e-4, atol=2e-5 if bits == 4 else 2e-6)


def test_a_matrix_has_so_many_values_and_its_bytes_are_the_official_ones(bits):
    used, expected = levels.quantised(weight(), bits), official(bits)
    values = weight().std() * levels.codebook(bits)[0].float() + weight().mean()
    same(values, [expected["mean"] + expected["deviation"] * level for level in expected["codebook"]], atol=1e-5)
    assert torch.isin(used, values).all(), "to the last bit"
    index = (used.flatten()[:, None] == values).int().argmax(dim=1)
    packed = levels.pack(index, bits)
    assert packed.tolist() == expected["bytes"]
    assert len(packed) == 48 * bits // 8
    assert levels.unpack(packed, bits, 48).tolist() == index.tolist()


@pytest.mark.parametrize("count", [1, 5, 8, 9])
def test_numbers_that_fill_no_byte_come_back(bits, count):
    index = torch.arange(count) % 2**bits
    packed = levels.pack(index, bits)
    assert len(packed) == -(-count * bits // 8)
    assert levels.unpack(packed, bits, count).tolist() == index.tolist()


def test_a_matrix_that_is_quantised_again_is_another():
    once = levels.quantised(weight(), 1)
    assert not torch.allclose(levels.quantised(once, 1), once)


def test_a_matrix_of_zeros_would_stay_zero_and_no_layer_starts_so():
    zeros = nn.Parameter(torch.zeros(4, 4))
    assert not levels.quantised(zeros, 1).any()
    branch = Branch(BinadapterConfig(rank=3), 5, 7, torch.empty(0))
    assert 0 < branch.B_OR.abs().max() <= 2e-3


@pytest.mark.parametrize("bits", [*BITS, 32])
def test_a_layer_is_the_equation(bits):
    torch.manual_seed(0)
    base, x = nn.Linear(8, 12).double(), torch.randn(5, 8, dtype=torch.float64)
    layer = BinadapterLinear(base, BinadapterConfig(rank=4, bits=bits, scale=3.0, dropout=0.0))
    a, b = (m if bits == 32 else levels.quantised(m, bits) for m in (layer.branch.A_RI, layer.branch.B_OR))
    expected = base(x) + 3.0 * (x @ a.T) @ b.T
    torch.testing.assert_close(layer(x), expected)
    assert 1 < len(layer.change().B_OR.unique()) <= min(2**bits, 48)
    torch.testing.assert_close(layer.merge()(x), expected)


def test_dropout_stands_between_the_two_matrices():
    torch.manual_seed(0)
    branch = Branch(BinadapterConfig(rank=4, dropout=0.5, scale=1.0), 6, 9, torch.empty(0)).train()
    x = torch.randn(1, 6)
    a, b = branch.used()
    kept = [torch.linalg.lstsq(b, branch(x).T).solution[:, 0] / (a @ x[0]) for _ in range(5)]
    assert {abs(round(share, 2)) for share in torch.cat(kept).tolist()} == {0.0, 2.0}


@pytest.mark.parametrize("dtype", contract.DTYPES, ids=str)
def test_matrices_train_in_fp32_and_what_is_finished_has_two_values(tiny, dtype):
    model = attach(contract.model("llama", tiny, dtype), BinadapterConfig(**SMALL), Start())
    assert {layer.branch.A_RI.dtype for layer in adapted(model).values()} == {torch.float32}
    changes = finish(model)
    assert changes.keys() == adapted(model).keys()
    for change in changes.values():
        assert [len(matrix.unique()) for matrix in change] == [2, 2]


def test_a_rank_above_a_layer_is_refused(tiny):
    with pytest.raises(ValueError, match=r"rank 33 is above model\.layers\."):
        attach(small.load(tiny), BinadapterConfig(rank=33), Start())


@pytest.mark.parametrize("bits", [0, 3, 8])
def test_bits_that_no_byte_is_cut_into_are_refused(bits):
    with pytest.raises(ValueError, match="bits"):
        BinadapterConfig(bits=bits)


def test_the_recipes_sides_store_as_many_bits():
    _, recipe = recipes.read([str(Path(__file__).resolve().parents[2] / "params/compare/binadapter.yaml")])
    one, full = (recipe.compositions[name]["methods"]["binadapter"] for name in ("one-bit", "as-large"))
    assert one["rank"] * one["bits"] == full["rank"] * full["bits"] == 32
