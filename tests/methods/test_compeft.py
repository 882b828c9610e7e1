"""What the ComPEFT paper promises, on vectors small enough to check by hand; its card's checks 1 to 5.

What the authors' code gave for the same tensors is in `data/compeft.json`. What the grid reaches on a trained model,
its check 6, takes trainings: `docs/claims/compeft.json`.
"""

import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tasks.methods.compressors.compeft import rice
from tasks.methods.compressors.compeft.config import CompeftConfig
from tasks.methods.compressors.compeft.method import candidates, decode, encode, quantise
from tests.methods.official import frozen, wave

SMALL = {"densities": (0.2, 0.5), "alphas": (1.0, 2.0)}
GRID = (0.05, 0.1, 0.2, 0.3, 0.5)


def point(density=0.2, alpha=1.0, **config):
    return CompeftConfig(densities=(density,), alphas=(alpha,), **config)


def adapter(seed=0, ranks=(4, 8)):
    """A's and B's of a LoRA, in an order that is not that of their names; B is smaller, as after short training."""
    draw = torch.Generator().manual_seed(seed)
    return {
        f"layers.{layer}.q_proj.lora_{half}.weight": scale * torch.randn(*shape, generator=draw)
        for layer, rank in reversed(list(enumerate(ranks)))
        for half, shape, scale in (("B", (24, rank), 0.2), ("A", (rank, 16), 1.0))
    }


def vector(tensors):
    """All entries, in the order of names."""
    return np.concatenate([tensors[name].double().numpy().ravel() for name in sorted(tensors)])


def reference(tau, density, alpha, rule="compeft"):
    """Algorithm 1 on one vector, in float64 numpy, with the official threshold."""
    size = np.sort(np.abs(tau))
    rank = len(tau) - math.floor(density * len(tau))
    keep = np.abs(tau) >= (size[rank - 1] if rank else 0)
    scalar = {"compeft": alpha * np.std(tau, ddof=1), "stc": np.abs(tau[keep]).mean()}
    return tau * keep if rule == "prune" else scalar[rule] * np.sign(tau) * keep


@pytest.mark.parametrize("density", GRID)
def test_the_vector_has_three_values_and_the_official_number_of_entries(density):
    delta = adapter()
    found = vector(quantise(delta, point(density, 3.0)))
    a = 3.0 * np.std(vector(delta), ddof=1)
    assert sorted(set(found)) == [pytest.approx(-a, rel=1e-6), 0.0, pytest.approx(a, rel=1e-6)]
    assert np.count_nonzero(found) == math.floor(density * len(found)) + 1


def test_entries_that_tie_with_the_last_are_all_kept():
    found = quantise({"w": torch.tensor([1.0, -1.0, 1.0, 0.5, 3.0])}, point(0.2))["w"]
    assert found.sign().tolist() == [1, -1, 1, 0, 1]  # the second largest magnitude stands three times


@pytest.mark.parametrize("density", GRID)
def test_no_dropped_entry_is_larger_than_a_kept_one(density):
    delta = adapter()
    size, keep = np.abs(vector(delta)), vector(quantise(delta, point(density))) != 0
    assert size[keep].min() >= size[~keep].max()


@pytest.mark.parametrize("rule", ["compeft", "stc", "prune"])
@pytest.mark.parametrize("density", GRID)
def test_it_is_algorithm_1_whatever_the_order_of_names(rule, density):
    delta = adapter()
    expected = reference(vector(delta), density, 2.0, rule)
    for order in (delta, dict(reversed(delta.items()))):
        found = quantise(order, point(density, 2.0, rule=rule))
        np.testing.assert_allclose(vector(found), expected, rtol=0, atol=1e-7)


def test_stc_takes_the_mean_of_magnitudes_not_of_signed_values():
    found = quantise({"w": torch.tensor([4.0, -2.0, 0.1, 0.1])}, point(0.25, rule="stc"))["w"]
    assert found.tolist() == [3.0, -3.0, 0.0, 0.0]


def waves(shapes, phase, *, at=0.0, scale=1.0):
    """The tensors that the official code was given: a phase for each name, in their order."""
    return {
        name: at + scale * wave(*shape, phase=phase + number, dtype=torch.float32)
        for number, (name, shape) in enumerate(sorted(shapes.items()))
    }


def at_official(k, factor):
    """Settings for the official k, in percent, and `replace_factor`: -1 prunes only, -2 is STC."""
    return point(k / 100, **{-1: {"rule": "prune"}, -2: {"rule": "stc"}}.get(factor, {"alpha": factor}))


@pytest.mark.parametrize("number", range(20))
def test_a_lora_comes_out_as_from_the_official_code(number):
    """Three functions gave the same: get_compressed_lora_weights, compress_and_update_llama_adaptors and ..._t5_parms.

    The scalar of their STC is the mean of signed values, STC's is that of magnitudes: all else is compared.
    """
    expected = frozen("compeft")["lora"]
    k, factor, signs, noted = expected["points"][number]
    delta = waves(expected["shapes"], 0.2)
    tau, kept = vector(delta), np.array([sign != "0" for sign in signs])
    for order in (delta, dict(reversed(delta.items()))):
        found = vector(quantise(order, at_official(k, factor)))
        assert "".join("+" if x > 0 else "-" if x < 0 else "0" for x in found) == signs
        if factor == -1:
            assert found.sum() == pytest.approx(noted, abs=1e-6)
            assert np.array_equal(found, tau * kept)
        elif factor == -2:
            assert tau[kept].mean() == pytest.approx(noted, abs=1e-6)
            assert np.abs(found[kept]) == pytest.approx(np.abs(tau[kept]).mean(), abs=1e-6)
        else:
            assert np.abs(found[kept]) == pytest.approx(noted, abs=1e-7 * factor)


@pytest.mark.parametrize("kind", ["ia3", "full"])
@pytest.mark.parametrize("number", range(4))
def test_ia3_and_full_fine_tuning_come_out_as_from_the_official_code(kind, number):
    """compress_and_update_t5_parms: the difference is to 1, or to a base whose tied table counts once."""
    expected = frozen("compeft")[kind]
    k, factor, noted = expected["points"][number]
    if kind == "ia3":
        tuned, reference = waves(expected["shapes"], 0.4, at=1.0, scale=0.3), dict.fromkeys(expected["shapes"], 1)
    else:
        reference, moved = waves(expected["shapes"], 0.1), waves(expected["shapes"], 0.7, scale=0.05)
        tuned = {name: tensor + moved[name] for name, tensor in reference.items()}
    found = quantise({name: tensor - reference[name] for name, tensor in tuned.items()}, at_official(k, factor))
    back = vector({name: tensor + reference[name] for name, tensor in found.items()})
    np.testing.assert_allclose(back, noted, rtol=0, atol=5e-7)


def test_each_tensor_can_have_a_threshold_and_a_sigma_of_its_own():
    delta = adapter()
    found = quantise(delta, point(0.25, 2.0, scope="tensor"))
    for name, tensor in delta.items():
        expected = reference(tensor.double().numpy().ravel(), 0.25, 2.0)
        np.testing.assert_allclose(found[name].numpy().ravel(), expected, rtol=0, atol=1e-6)


def test_the_random_start_of_a_crowds_b_out_unless_tensors_stand_alone():
    def share_of_b(scope):
        found = quantise(adapter(), point(0.2, scope=scope))
        kept = torch.cat([tensor.flatten() != 0 for name, tensor in found.items() if "lora_B" in name])
        return kept.float().mean().item()

    assert share_of_b("model") < 0.02 < 0.2 < share_of_b("tensor")


def test_a_lone_entry_and_a_tensor_of_zeros_survive_a_scope_of_their_own():
    found = quantise({"one": torch.tensor([-3.0]), "none": torch.zeros(4)}, point(0.5, 2.0, scope="tensor"))
    assert found["one"].tolist() == [-6.0]
    assert found["none"].tolist() == [0.0] * 4


def test_all_entries_pruned_at_full_density_are_the_adapter_bit_for_bit():
    delta = adapter()
    found = decode(encode(quantise(delta, point(1.0, rule="prune"))))
    assert all(torch.equal(found[name], tensor) for name, tensor in delta.items())


def test_at_full_density_all_magnitudes_become_one_and_the_authors_code_changes_nothing():
    """Their functions return at k = 100. On their tensors that is 48 entries as they are, against 48 of 0.662 here."""
    delta = waves(frozen("compeft")["lora"]["shapes"], 0.2)
    found, kept = vector(quantise(delta, point(1.0))), vector(quantise(delta, point(1.0, rule="prune")))
    assert np.abs(found) == pytest.approx([0.6624085] * 48, abs=1e-6)
    assert np.array_equal(np.sign(found), np.sign(vector(delta)))
    assert np.array_equal(kept, vector(delta))
    assert np.abs(found - kept).max() == pytest.approx(0.637, abs=1e-3)


@pytest.mark.parametrize("rule", ["compeft", "stc", "prune"])
@pytest.mark.parametrize("scope", ["model", "tensor"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("density", [0.01, 0.3, 1.0])
def test_the_code_loses_nothing(tmp_path, rule, scope, dtype, density):
    delta = {name: tensor.to(dtype) for name, tensor in adapter().items()} | {"zeros": torch.zeros(3, dtype=dtype)}
    expected = quantise(delta, point(density, rule=rule, scope=scope))
    save_file(encode(expected), tmp_path / "delta.safetensors")
    found = decode(load_file(tmp_path / "delta.safetensors"))
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == dtype
        assert torch.equal(found[name], tensor), name


def test_whole_numbers_take_no_part_and_are_kept_as_they_are():
    delta = adapter() | {"counts": torch.tensor([1000, -7])}
    quantised = quantise(delta, point())
    assert torch.equal(vector_of(quantised), vector_of(quantise(adapter(), point())))
    assert torch.equal(decode(encode(quantised))["counts"], delta["counts"])


def vector_of(tensors):
    return torch.cat([tensors[name].flatten() for name in sorted(tensors) if tensors[name].is_floating_point()])


def test_a_run_is_its_quotient_in_unary_then_its_low_bits():
    # Kept at 3 and 9 of 20: runs of 3 and 5 zeros. k = 0.1 gives b = 1 + floor(log2(ln 0.618 / ln 0.9)) = 3.
    sparse = torch.zeros(20)
    sparse[3], sparse[9] = 2.0, -2.0
    stored = encode({"w": sparse})
    assert rice.parameter(2, 20) == 3
    bits = {name: np.unpackbits(stored[name].numpy()).tolist() for name in ("runs", "lows", "signs")}
    assert bits["runs"][:2] == [1, 1]  # 3 >> 3 and 5 >> 3 are 0
    assert bits["lows"][:6] == [1, 1, 0, 1, 0, 1]  # 3 and 5, lowest bit first
    assert bits["signs"][:2] == [1, 0]


@pytest.mark.parametrize(("density", "low_bits"), [(0.05, 4), (0.1, 3), (0.2, 2), (0.3, 1), (0.5, 0)])
def test_the_parameter_is_that_of_the_formula(density, low_bits):
    # 1 + floor(log2(ln(phi - 1) / ln(1 - k))), by hand
    assert rice.parameter(round(density * 1000), 1000) == low_bits


@pytest.mark.parametrize(("density", "golomb"), [(0.05, 0.339), (0.1, 0.576), (0.2, 0.939), (0.3, 1.188), (0.5, 1.5)])
def test_the_file_is_within_three_percent_of_the_entropy_and_of_the_cards_column(tmp_path, density, golomb):
    draw = torch.Generator().manual_seed(0)
    delta = {
        f"base_model.model.model.layers.{layer}.mlp.{name}.lora_{half}.weight": torch.randn(shape, generator=draw)
        for layer in range(12)
        for name in ("up_proj", "down_proj")
        for half, shape in (("A", (16, 2048)), ("B", (2048, 16)))
    }
    n = sum(tensor.numel() for tensor in delta.values())
    save_file(encode(quantise(delta, point(density))), tmp_path / "delta.safetensors")
    bits = 8 * (tmp_path / "delta.safetensors").stat().st_size / n
    entropy = -(1 - density) * math.log2(1 - density) - density * math.log2(density / 2)
    assert entropy < bits < 1.03 * entropy
    assert bits == pytest.approx(golomb, rel=0.03)


def test_a_and_b_kept_unevenly_take_fewer_bits_than_one_parameter_for_both_could(tmp_path):
    # At 20 % overall the entropy of one density is 0.922 bits an entry.
    delta = {f"lora_{half}": scale * torch.randn(16, 4096) for half, scale in (("A", 1.0), ("B", 0.2))}
    save_file(encode(quantise(delta, point(0.2))), tmp_path / "delta.safetensors")
    assert 8 * (tmp_path / "delta.safetensors").stat().st_size / (2 * 16 * 4096) < 0.8


def test_the_grid_is_every_density_with_every_alpha_small_files_first():
    found = [(*one.densities, *one.alphas) for one in candidates(CompeftConfig(densities=(0.5, 0.1), alphas=(1, 2)))]
    assert found == [(0.1, 1), (0.1, 2), (0.5, 1), (0.5, 2)]
    assert len(candidates(CompeftConfig())) == 5 * 9
    assert len(candidates(CompeftConfig(rule="stc"))) == 5  # its scalar is no choice


@pytest.mark.parametrize("wrong", [{"densities": (0.0,)}, {"densities": (1.5,)}, {"densities": ()}, {"alphas": (0,)}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        CompeftConfig(**wrong)
