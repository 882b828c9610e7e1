"""Changes of weights are merged as the papers and mergekit have it."""

import pytest
import torch

from tasks.core.weights.merging import DENSITIES, Merge, slerp
from tests.methods import official
from tests.methods.official import wave

OFFICIAL = official.frozen("merging")
FIRST, SECOND, THIRD = wave(3, 5), wave(3, 5, phase=1.0), wave(3, 5, phase=2.0)


@pytest.mark.parametrize("t", [0.0, 0.25, 0.7])
def test_slerp_gives_mergekits_numbers(t):
    official.same(slerp(FIRST, SECOND, t), OFFICIAL[f"slerp {t}"])


def test_an_arc_between_near_tensors_is_a_line_as_in_mergekit():
    official.same(slerp(FIRST, FIRST + 1e-3 * SECOND, 0.25), OFFICIAL["slerp near"])


def test_slerp_keeps_lengths_where_a_mean_shortens_them():
    east, north = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    halfway = Merge("slerp").combine([east, north], [1.0, 1.0])
    torch.testing.assert_close(halfway, torch.tensor([[2.0, 2.0]]) / 2**0.5)
    assert Merge("linear").combine([east, north], [1.0, 1.0]).norm() < 0.75 * halfway.norm()
    assert torch.equal(Merge("slerp").combine([east, north], [1.0, 0.0]), east)
    assert torch.equal(slerp(torch.zeros(2), torch.tensor([4.0, 0.0]), 0.25), torch.tensor([1.0, 0.0]))


@pytest.mark.parametrize("density", [0.2, 0.6, 1.0])
def test_ties_gives_mergekits_numbers(density):
    merged = Merge("ties", density).combine([FIRST, SECOND, THIRD], [1.0, 1.0, 1.0])
    official.same(merged, OFFICIAL[f"ties {density}"])


def test_linear_is_the_mean_and_task_arithmetic_the_sum():
    one, other = torch.tensor([1.0, 2.0]), torch.tensor([3.0, -2.0])
    assert Merge("linear").combine([one, other], [3.0, 1.0]).tolist() == [1.5, 1.0]
    assert Merge("task_arithmetic").combine([one, other], [3.0, -1.0]).tolist() == [0.0, 8.0]


def test_magnitude_prune_keeps_the_largest_changes():
    one, other = torch.tensor([1.0, -4.0, 2.0, 0.5]), torch.tensor([5.0, 1.0, 1.5, 6.0])
    assert Merge("magnitude_prune", 0.5).combine([one, other], [1.0, 2.0]).tolist() == [10.0, -4.0, 2.0, 12.0]


@pytest.mark.parametrize("method", ["dare_linear", "dare_ties"])
def test_dare_draws_a_share_and_scales_it_up(method):
    torch.manual_seed(0)
    merged = Merge(method, 0.25).combine([torch.ones(40_000)], [0.5])
    assert merged.unique().tolist() == [0.0, 2.0]
    assert merged.mean().item() == pytest.approx(0.5, abs=0.02)  # 0.5 is expected, and 3 standard deviations are 0.013


@pytest.mark.parametrize("method", [method for method in DENSITIES if method != "slerp"])
def test_one_expert_of_full_density_is_itself(method):
    density = None if DENSITIES[method] is None else 1.0
    assert torch.equal(Merge(method, density).combine([FIRST], [1.0]), FIRST)


def test_a_method_has_the_density_of_its_paper_where_none_is_given():
    assert {method: Merge(method).density for method in DENSITIES} == DENSITIES
    assert Merge("ties", 0.5).density == 0.5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("tie",), r"no method of merging 'tie'\. There are: linear, .*dare_ties"),
        (("slerp", 0.5), r"slerp keeps every change, so it has no density\. Methods with one: magnitude_prune, ties"),
        (("ties", 0.0), "A density of 0 is no share"),
        (("ties", 1.5), "A density of 1.5 is no share"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Merge(*settings)


@pytest.mark.parametrize(
    ("method", "weights", "message"),
    [
        ("slerp", [1.0], "goes from one expert to another: give two"),
        ("slerp", [1.0, 1.0, 1.0], "goes from one expert to another: give two"),
        ("slerp", [1.0, -0.5], "weights of at least 0"),
        ("slerp", [0.0, 0.0], "not both 0"),
        ("linear", [1.0, -1.0], r"divides by the sum of the weights, which is 0\. Use --method task_arithmetic"),
        ("linear", [0.1, 0.2, -0.3], r"divides by the sum of the weights, which is 0\. Use --method task_arithmetic"),
    ],
)
def test_weights_by_which_a_method_cannot_merge_are_refused(method, weights, message):
    with pytest.raises(ValueError, match=message):
        Merge(method).check(weights)
    Merge("task_arithmetic").check(weights)
