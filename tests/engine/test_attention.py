"""Attention by products is the textbook's, forwards and backwards."""

import pytest
import torch
from torch.nn import functional as F

from tasks.engine import attention
from tasks.engine.attention import attend, by_products


def drawn(length, *, seen=0, heads=6, shared=2, width=8, seed=0, **kind):
    """Queries, and keys and values of `seen` tokens more."""
    draw = torch.Generator().manual_seed(seed)
    shapes = [(1, heads, length, width), *[(1, shared, seen + length, width)] * 2]
    return [torch.randn(shape, generator=draw, dtype=torch.float64).to(**kind) for shape in shapes]


def textbook(query, key, value, before, scale=None, window=None):
    """Every score at once, in the precision of what is given."""
    key, value = (states.repeat_interleave(query.shape[1] // states.shape[1], dim=1) for states in (key, value))
    scores = query @ key.mT * (scale or query.shape[-1] ** -0.5)
    if before is not None:
        hidden = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(before + 1)
        scores = scores.masked_fill(hidden, -torch.inf)
    if window is not None:
        first = before or 0
        near = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(first - window + 1).tril(first + window - 1)
        scores = scores.masked_fill(~near, -torch.inf)
    return scores.softmax(dim=-1) @ value


def gap(found, expected):
    """How far what was found is from what was expected, as a share of its length."""
    return float((found.double() - expected.double()).norm() / expected.double().norm())


@pytest.mark.parametrize("before", [0, 5, None])
@pytest.mark.parametrize("length", [1, 127, 128, 129, 300])
def test_bf16_on_a_cpu_is_near_the_textbook(length, before):
    given = drawn(length, seen=before or 0, dtype=torch.bfloat16)
    for found in (attend(*given, before=before), by_products(*given, before=before)):
        assert found.dtype is torch.bfloat16
        assert gap(found, textbook(*(one.double() for one in given), before)) < 0.01


@pytest.mark.parametrize("before", [0, 2, None])
@pytest.mark.parametrize("length", [1, 3, 4, 10])
def test_products_are_exact_forwards_and_backwards(length, before, monkeypatch):
    monkeypatch.setattr(attention, "BLOCK", 3)
    given = [one.requires_grad_() for one in drawn(length, seen=before or 0, dtype=torch.float64)]
    found = by_products(*given, before=before, scale=0.3)
    torch.testing.assert_close(found, textbook(*given, before, 0.3))
    assert torch.autograd.gradcheck(lambda *states: by_products(*states, before=before, scale=0.3), given)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("before", [0, 5, None])
@pytest.mark.parametrize("window", [1, 4, 19, 30])
def test_a_query_sees_only_the_keys_in_its_window(window, before, kind):
    given = drawn(20, seen=before or 0, dtype=kind)
    expected = textbook(*(one.double() for one in given), before, window=window)
    assert gap(attend(*given, before=before, window=window), expected) < (1e-5 if kind is torch.float32 else 0.01)


def test_gradients_in_bf16_are_as_near_as_those_of_torchs_kernel():
    exact = [one.requires_grad_() for one in drawn(300, dtype=torch.float64)]
    weights = torch.randn(1, 6, 300, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    textbook(*exact, 0).backward(weights)

    def gaps(kernel):
        given = [one.detach().bfloat16().requires_grad_() for one in exact]
        kernel(*given).backward(weights.bfloat16())
        return [gap(one.grad, true.grad) for one, true in zip(given, exact, strict=True)]

    kernels = gaps(lambda *states: F.scaled_dot_product_attention(*states, is_causal=True, enable_gqa=True))
    assert all(ours < 1.5 * theirs < 0.03 for ours, theirs in zip(gaps(by_products), kernels, strict=True))


def test_autocast_asks_for_bf16_and_gradients_are_as_exact_as_what_they_are_of():
    given = [one.requires_grad_() for one in drawn(20, dtype=torch.float32)]
    with torch.autocast("cpu", torch.bfloat16):
        found = by_products(*given)
    assert found.dtype is torch.bfloat16
    found.float().sum().backward()
    assert all(one.grad.dtype is torch.float32 for one in given)


@pytest.mark.parametrize("cast", [True, False])
def test_bf16_is_done_by_products_on_cpus_that_multiply_it(cast, monkeypatch):
    monkeypatch.setattr(attention, "is_amd_with_bf16", lambda: True)
    monkeypatch.setattr(attention, "by_products", lambda *_, **__: "products")
    given = drawn(20, dtype=torch.float32 if cast else torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16, enabled=cast):
        assert attend(*given) == "products"


@pytest.mark.parametrize("before", [0, 5, None])
def test_other_precisions_are_left_to_torch(before, monkeypatch):
    monkeypatch.setattr(attention, "by_products", None)
    given = drawn(20, seen=before or 0, dtype=torch.float32)
    torch.testing.assert_close(attend(*given, before=before), textbook(*given, before))
    attend(*(one.bfloat16() for one in given), before=before, dropout=0.1)
