"""SoKA trains the leading Kronecker products of a weight; its card's checks 1 to 6, and the counts of its recipe."""

import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import peft
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM

from flows.experiments import recipes
from tasks import methods
from tasks.core.training import Start
from tasks.core.weights import surgery
from tasks.engine.training import store
from tasks.io import config_file
from tasks.io.weights import checkpoints
from tasks.methods.adapters.corda import method as corda
from tasks.methods.adapters.soka import method as soka
from tasks.methods.adapters.soka import terms
from tasks.methods.adapters.soka.config import SokaConfig
from tasks.methods.adapters.soka.terms import Shape, Spectrum, Terms
from tests import tiny as small
from tests.methods import contract

SMALL = {"min_terms": 2, "max_terms": 2}
PARAMS = Path(__file__).resolve().parents[2] / "params"
ODD = Shape(m=3, n=5, p=7, q=2)
LAYERS = {"q": (64, 64), "grouped v": (16, 64), "up": (86, 48), "prime": (13, 12)}


def trainable(model, config):
    """The sum over all adapted layers of 2 (M N + P Q), each M and N the divisor nearest to the square root."""
    count = 0
    for layer in surgery.linears(model, config.targets).values():
        m, n = (terms.nearest_divisor(side) for side in layer.weight.shape)
        count += config.max_terms * (m * n + layer.weight.numel() // (m * n))
    return count


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def products(count, shape, seed=0):
    return Terms(noise(count, shape.m, shape.n, seed=seed), noise(count, shape.p, shape.q, seed=seed + 1))


def kron(those):
    """The sum of the products by torch."""
    return sum(torch.kron(a, b) for a, b in zip(*those, strict=True))


def decompose(weight, shape=ODD, **config):
    return terms.decompose("q_proj", weight, shape, SokaConfig(**config))


def first(those, count):
    return Terms(*(factor[:count] for factor in those))


def test_a_weight_is_rearranged_entry_by_entry_as_the_card_says():
    weight = noise(21, 10)
    rearranged = terms.rearrange(weight, ODD)
    for i, j, a, b in [(0, 0, 0, 0), (1, 2, 3, 1), (2, 4, 6, 1), (2, 0, 5, 0)]:
        assert rearranged[i * 5 + j, a * 2 + b] == weight[i * 7 + a, j * 2 + b]


@pytest.mark.parametrize("count", [1, 4])
def test_the_sum_is_that_of_torchs_kronecker_products(count):
    those = products(count, ODD)
    torch.testing.assert_close(terms.total(those), kron(those))


def test_one_product_of_four_different_sides_is_found_again():
    those = products(1, ODD)
    spectrum = decompose(kron(those))
    assert spectrum.sigma_K.tolist() == pytest.approx([(those.A_RMN.norm() * those.B_RPQ.norm()).item()])
    torch.testing.assert_close(kron(spectrum.leading), kron(those))
    assert torch.linalg.matrix_rank(kron(those).reshape(15, 14)) > 1, "a plain reshape does not show it"


@pytest.mark.parametrize("count", [1, 5, 14])
def test_the_leading_products_are_the_nearest(count):
    weight = noise(21, 10)
    spectrum = decompose(weight, max_terms=14)
    error = (weight - kron(first(spectrum.leading, count))).norm().item()
    rest = float((spectrum.sigma_K[count:] ** 2).sum().sqrt())
    assert error == pytest.approx(rest, rel=1e-9, abs=1e-12)
    assert spectrum.energy(count) == pytest.approx(1 - rest**2 / float(weight.norm()) ** 2)
    if count < 14:
        assert error <= fitted(weight, count, rounds=30)


def fitted(weight, count, rounds):
    """The error of so many products that alternating least squares found from a random start."""
    rearranged = terms.rearrange(weight, ODD)
    b = noise(14, count, seed=3)
    for _ in range(rounds):
        a = torch.linalg.lstsq(b, rearranged.T).solution.T
        b = torch.linalg.lstsq(a, rearranged).solution.T
    return (rearranged - a @ b.T).norm().item() + 1e-9


def test_the_sides_of_a_are_the_divisors_nearest_to_the_square_root():
    found = [terms.nearest_divisor(number) for number in (4096, 11008, 14336, 1536, 576, 192, 13, 12)]
    assert found == [64, 86, 112, 32, 24, 12, 1, 3]


def strong():
    """Three products of one size, and 1 % noise."""
    shape = Shape(8, 6, 9, 7)
    u, _, vt = torch.linalg.svd(noise(shape.m * shape.n, shape.p * shape.q), full_matrices=False)
    rearranged = u[:, :3] @ vt[:3]
    rearranged += 0.01 * noise(*rearranged.shape, seed=1) * rearranged.norm() / rearranged.numel() ** 0.5
    return rearranged.view(8, 6, 9, 7).transpose(1, 2).reshape(72, 42), shape


def test_three_strong_products_are_counted_by_both_criteria():
    spectrum = decompose(*strong())
    assert terms.by_energy(spectrum.sigma_K, 0.9) == 3
    assert terms.by_elbow(spectrum.sigma_K, 16) == 3
    assert terms.count(spectrum, SokaConfig()) == 3


def test_energy_asks_for_more_products_the_more_it_is():
    sigma = decompose(noise(21, 10)).sigma_K
    counts = [terms.by_energy(sigma, share) for share in (0.01, 0.3, 0.6, 0.9, 1.0)]
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (1, 14)
    for share, count in zip((0.3, 0.6, 0.9), counts[1:4], strict=True):
        held = (sigma**2).cumsum(0) / (sigma**2).sum()
        assert held[count - 2] < share <= held[count - 1]


def test_a_spectrum_that_falls_evenly_has_no_elbow():
    assert terms.by_elbow(0.5 ** torch.arange(9, dtype=torch.float64), 9) == 9
    assert terms.by_elbow(torch.ones(1, dtype=torch.float64), 16) == 1


@pytest.mark.parametrize(
    ("config", "count"),
    [({"min_terms": 5}, 5), ({"max_terms": 2}, 2), ({"energy": 0.3}, 1), ({"energy": 0.5}, 2), ({}, 3)],
)
def test_the_smaller_criterion_counts_between_the_bounds(config, count):
    weight, shape = strong()
    assert terms.count(decompose(weight, shape, **config), SokaConfig(**config)) == count


def spectrum(shape, *sigma):
    return Spectrum(shape, torch.tensor(sigma, dtype=torch.float64), products(len(sigma), shape))


def test_a_budget_goes_to_the_most_energy_for_each_number():
    wide, slim = Shape(4, 4, 4, 4), Shape(2, 2, 2, 2)  # 32 and 8 numbers a product
    spectra = {"wide": spectrum(wide, 9.0, 8.0, 1.0), "slim": spectrum(slim, 3.0, 2.0, 1.9)}
    share = partial(terms.share_out, spectra, SokaConfig())
    assert share(40) == {"wide": 1, "slim": 1}
    assert share(72) == {"wide": 2, "slim": 1}, "64 / 32 is above 4 / 8"
    assert share(80) == {"wide": 2, "slim": 2}
    assert share(70) == {"wide": 1, "slim": 3}, "what is left is too little for wide, and not for slim"
    assert share(10_000) == {"wide": 3, "slim": 3}
    strong = spectra | {"wide": spectrum(wide, 9.0, 3.0, 1.0)}
    assert terms.share_out(strong, SokaConfig(), 72) == {"wide": 1, "slim": 3}, "9 / 32 is below 4 / 8 and 3.61 / 8"
    assert terms.share_out(spectra, SokaConfig(max_terms=2), 10_000) == {"wide": 2, "slim": 2}
    with pytest.raises(
        ValueError, match=r"budget 39 is below 1 Kronecker products in each of 2 layers: take at least 40"
    ):
        share(39)


def layer_of(size, **config):
    """An adapted layer of this size with a bias, moved a little, and its weight before."""
    base = nn.Linear(size[1], size[0]).double()
    weight = base.weight.detach().clone()
    shape = Shape(m := terms.nearest_divisor(size[0]), n := terms.nearest_divisor(size[1]), size[0] // m, size[1] // n)
    layer = soka.SokaLinear(base, decompose(weight, shape, **config).leading, None)
    with torch.no_grad():
        layer.A_RMN += 0.1 * noise(*layer.A_RMN.shape, seed=5)
        layer.B_RPQ += 0.1 * noise(*layer.B_RPQ.shape, seed=6)
    return layer, weight


@pytest.mark.parametrize("size", LAYERS.values(), ids=LAYERS)
def test_a_moved_layer_adds_its_products_less_those_it_started_from(size):
    layer, weight = layer_of(size, max_terms=3)
    x, bias = noise(2, 5, size[1], seed=7), layer.base.bias
    moved = weight + kron((layer.A_RMN, layer.B_RPQ)) - kron((layer.A0_RMN, layer.B0_RPQ))
    assert not torch.allclose(moved, weight)
    torch.testing.assert_close(layer(x), F.linear(x, moved, bias))
    torch.testing.assert_close(layer.merge()(x), F.linear(x, moved, bias))


def test_all_products_that_train_are_the_weight_itself():
    weight = noise(21, 10)
    torch.testing.assert_close(terms.total(decompose(weight, max_terms=14).leading), weight)


@pytest.mark.parametrize("dtype", contract.DTYPES, ids=str)
@pytest.mark.parametrize("config", [{}, {"budget": 2000, "min_terms": 1, "max_terms": 5}, {"init": "random"}], ids=str)
def test_a_fresh_model_is_the_base_to_the_bit_whatever_decides(tiny, config, dtype):
    expected = contract.losses(contract.model("qwen2", tiny, dtype))
    method = contract.part("adapters", "soka", **SMALL | config)
    assert torch.equal(contract.losses(contract.attached(method, contract.model("qwen2", tiny, dtype))), expected)


def attach(seed=0, **config):
    return soka.attach(small.qwen2(), SokaConfig(**SMALL | config), Start(seed=seed))


def test_the_control_has_as_many_numbers_and_a_random_start():
    own, random, other = (
        soka.adapted(attach(seed, init=init, min_terms=1, max_terms=4))
        for init, seed in [("svd", 0), ("random", 0), ("random", 1)]
    )
    for name, layer in random.items():
        assert layer.A_RMN.shape == own[name].A_RMN.shape
        torch.testing.assert_close(layer.A_RMN.flatten(1).norm(dim=1), own[name].A_RMN.flatten(1).norm(dim=1))
        assert not torch.allclose(layer.A_RMN, own[name].A_RMN)
        assert not torch.equal(layer.A_RMN, other[name].A_RMN)
        assert not layer.B_RPQ.any()


def test_training_tells_what_decided_the_number_of_products():
    model = attach(min_terms=1, max_terms=4, targets=("v_proj",))
    figures = soka.facts(model)["layers"]
    assert figures.keys() == soka.adapted(model).keys()
    for name, layer in soka.adapted(model).items():
        of_layer = figures[name]
        assert of_layer["terms"] == len(layer.A_RMN) == max(1, min(4, of_layer["by_energy"], of_layer["by_elbow"]))
        held = float(kron((layer.A0_RMN, layer.B0_RPQ)).norm() ** 2 / layer.base.weight.norm() ** 2)
        assert of_layer["energy"] == pytest.approx(held, abs=1e-4)


def test_a_saved_adapter_has_its_numbers_of_products_and_needs_no_decomposition(tiny, tmp_path, monkeypatch):
    budget = contract.part("adapters", "soka", budget=1500, min_terms=1, max_terms=8)
    parts = replace(contract.composition(), adapter=budget)
    attached, optimizer = contract.composed(checkpoints.load(tiny)[0], parts)
    contract.steps(attached, optimizer, parts, count=3)
    counts = {len(layer.A_RMN) for layer in soka.adapted(attached.model).values()}
    assert len(counts) > 1
    store.save(attached, parts, None, tmp_path / "saved")
    checkpoints.write_card(tmp_path / "saved", method=parts.names, parent=checkpoints.weights_digest(tiny))
    monkeypatch.setattr(terms, "decompose", None)
    loaded, _ = checkpoints.load(tmp_path / "saved", tiny)
    torch.testing.assert_close(contract.losses(loaded), contract.losses(attached.model), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"max_terms": 99},
            r"max_terms 99 is above model\.layers\.0\.self_attn\.\w+: its weight of .* Take at most \d+\.",
        ),
        ({"shapes": {"q_proj": (5, 4)}}, r"shapes: 5 × 4 does not divide .*q_proj, whose weight is 48 × 48\."),
        ({"shapes": {"up_proj": (4, 4)}}, r"shapes names up_proj, and the targets are q_proj, v_proj\."),
        ({"budget": 10}, r"budget 10 is below 2 Kronecker products in each of \d+ layers"),
    ],
)
def test_settings_that_fit_no_layer_are_refused(config, message):
    with pytest.raises(ValueError, match=message):
        attach(**config)


def test_sides_can_be_given_by_layer():
    layers = soka.adapted(attach(shapes={"q_proj": (2, 16)}))
    assert {tuple(layer.A_RMN.shape[1:]) for name, layer in layers.items() if "q_proj" in name} == {(2, 16)}
    assert {tuple(layer.A_RMN.shape[1:]) for name, layer in layers.items() if "v_proj" in name} != {(2, 16)}


def test_bounds_out_of_order_are_refused():
    with pytest.raises(ValueError, match=r"min_terms 5 is above max_terms 4"):
        SokaConfig(min_terms=5, max_terms=4)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (
            torch.zeros(21, 10),
            r"the weight of q_proj is a sum of 0 Kronecker products, and methods\.soka\.min_terms is 2",
        ),
        (kron(products(1, ODD)), r"the weight of q_proj is a sum of 1 Kronecker products"),
        (torch.full((21, 10), math.nan), r"the weight of q_proj is not finite"),
    ],
    ids=["zero", "one product", "not finite"],
)
def test_weights_whose_products_could_not_move_are_refused_by_name(weight, message):
    with pytest.raises(ValueError, match=message):
        decompose(weight, min_terms=2)


def test_corda_without_a_probe_starts_as_pefts_pissa(tiny):
    """It is the recipe's PiSSA: the first components of the weight alone, taken out of it."""
    config = peft.LoraConfig(
        r=4, lora_alpha=4, target_modules=["q_proj"], init_lora_weights="pissa", task_type=peft.TaskType.CAUSAL_LM
    )
    theirs = peft.get_peft_model(small.load(tiny), config).get_base_model()
    settings = corda.CordaConfig(rank=4, mode="ipm", covariance="identity", targets=("q_proj",))
    for name, layer in corda.adapted(corda.attach(small.load(tiny), settings, Start())).items():
        their = theirs.get_submodule(name)
        their_product = their.lora_B["default"].weight @ their.lora_A["default"].weight
        torch.testing.assert_close(layer.B_OR @ layer.A_RI, their_product, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(layer.B_OR.norm(dim=0), their.lora_B["default"].weight.norm(dim=0))


def test_the_recipes_compositions_train_as_many_numbers_within_one_per_cent():
    _, recipe = recipes.read([str(PARAMS / "compare/soka.yaml")])
    model = config_file.parse(PARAMS / "lab.yaml")[0]["fetch"]["model"]
    counts = {}
    for name, composition in recipe.compositions.items():
        adapter = composition["adapter"]
        spec = methods.spec("adapters", adapter)
        config = spec.config.model_validate(composition["methods"][adapter])
        attached = methods.load("adapters", adapter).attach(lab(model), config, Start())
        counts[name] = sum(p.numel() for p in attached.parameters() if p.requires_grad)
    assert counts["soka"] == counts["random"]
    assert list(counts.values()) == pytest.approx([counts["pissa"]] * len(counts), rel=0.01)


def lab(sizes):
    """A model of the lab's sizes, but for its words."""
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=8,
            hidden_size=sizes["hidden"],
            num_hidden_layers=sizes["layers"],
            num_attention_heads=sizes["heads"],
            num_key_value_heads=sizes["kv_heads"],
            intermediate_size=sizes["mlp"],
        )
    )
