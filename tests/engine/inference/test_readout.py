"""What comes next after each branch is what a plain forward over its whole text says."""

import numpy as np
import pytest
import torch

from tasks.engine.forward import use_packed_attention
from tasks.engine.inference import readout
from tasks.engine.inference.readout import Branch, Tree
from tests import tiny as small

DIGITS = list(range(48, 58))


def trees(count=6, seed=5):
    """Trees whose branches stand on a part of their trunk, on all of it, or on nothing."""
    ids = [sequence.ids for sequence in small.sequences(count * 4, seed=seed)]
    made = []
    for place in range(0, len(ids), 4):
        trunk, *branches = ids[place : place + 4]
        stands_on = (0, len(trunk) // 2, len(trunk))
        made.append(Tree(trunk, [Branch(on, own) for on, own in zip(stands_on, branches, strict=True)]))
    return made


@torch.no_grad()
def by_hand(model, tree):
    texts = [[*tree.trunk[: branch.stands_on], *branch.ids] for branch in tree.branches]
    return [model(input_ids=torch.tensor([ids])).logits[0, -1, DIGITS].numpy() for ids in texts]


@pytest.mark.parametrize("make", [small.qwen2, small.gpt2])
@pytest.mark.parametrize("row_tokens", [1, 120, 10_000])
def test_the_odds_are_those_of_a_plain_forward(make, row_tokens, monkeypatch):
    monkeypatch.setattr(readout, "PACK_TOKENS", row_tokens)
    found = readout.log_odds(make().eval(), trees(), DIGITS)
    plain = make().eval()
    for tree, odds in zip(trees(), found, strict=True):
        np.testing.assert_allclose(odds, by_hand(plain, tree), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("mistral", {"sliding_window": 6}),
        ("phimoe", {"sliding_window": 6, "num_local_experts": 2}),
        ("qwen2_moe", {"use_sliding_window": True, "sliding_window": 6, "num_experts": 4}),
        ("granite", {"logits_scaling": 8.0}),
    ],
)
def test_windows_and_scaled_logits_are_those_of_the_family(name, config):
    asked = [Tree(list(range(20, 40)), [Branch(18, [50, 51, 52]), Branch(20, [60])])]
    (found,) = readout.log_odds(small.family(name, **config), asked, DIGITS)
    expected = by_hand(small.family(name, **config), asked[0])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "config"), [("falcon", {}), ("gpt_neo", {"attention_types": [[["global", "local"], 1]]})]
)
def test_a_family_that_takes_no_attention_of_ours_reads_each_branch_behind_its_trunk(name, config):
    sizes = {"num_layers": 2, "num_heads": 4, "window_size": 6} if name == "gpt_neo" else {}
    model, plain = (small.family(name, vocab_size=259, **config, **sizes) for _ in range(2))
    for _ in range(2):
        found = readout.log_odds(model, trees(3), DIGITS)
        for tree, odds in zip(trees(3), found, strict=True):
            np.testing.assert_allclose(odds, by_hand(plain, tree), rtol=1e-4, atol=1e-4)


def test_the_trunk_is_read_once():
    model, seen = small.qwen2().eval(), []
    use_packed_attention(model)  # which reads, to check the model
    model.get_decoder().register_forward_pre_hook(
        lambda _, args, inputs: seen.append(inputs["input_ids"].shape[1]), with_kwargs=True
    )
    readout.log_odds(model, trees(1), DIGITS)
    assert seen == [len(trees(1)[0])]


def test_nothing_to_ask_asks_nothing(tiny):
    assert readout.log_odds(small.load(tiny), [], DIGITS) == []
