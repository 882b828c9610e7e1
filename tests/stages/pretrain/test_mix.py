"""Replay keeps its share for corpora of any size, and the probe is not trained on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.sequences import Encoded
from tasks.engine.packing import schedule
from tasks.stages.pretrain.mix import set_aside, with_replay

PACK = 32


def corpus(name, lengths):
    """Sequences of these lengths, two of each document."""
    return [Encoded(f"{name}-{n // 2}", [0] * length, [1.0] * length, n, task=name) for n, length in enumerate(lengths)]


def tokens(sequences, name):
    return sum(len(sequence) for sequence in sequences if sequence.task == name)


lengths = st.lists(st.integers(2, PACK), min_size=1, max_size=40)


@given(lengths, st.floats(0, 0.9), st.integers(200, 2000), st.integers(0, 3))
def test_each_corpus_is_within_one_sequence_of_its_share(domain_lengths, share, budget, seed):
    domain, general = corpus("domain", domain_lengths), corpus("general", [7, 20, PACK] * 400)
    mixed = with_replay(domain, general, share, budget, seed)
    total = min(budget, tokens(domain, "domain") / (1 - share))
    # Where the first sequence of the domain alone is longer than its share, a general one makes room for it.
    for name, part, most in (("domain", 1 - share, PACK), ("general", share, 2 * PACK)):
        assert abs(tokens(mixed, name) - part * total) <= most
    assert len({(sequence.id, sequence.size) for sequence in mixed}) == len(mixed), "drawn without replacement"


@given(st.floats(0, 0.9), st.integers(500, 2000))
def test_a_pass_of_the_mixture_fits_the_training(share, budget):
    """Otherwise the last packs, and with them the share, would be cut off."""
    mixed = with_replay(corpus("domain", [9, 30] * 100), corpus("general", [7, 20] * 100), share, budget, 0)
    packs = schedule(mixed, PACK, budget, epochs=1, seed=0)
    assert sum(len(pack.sequences) for pack in packs) == len(mixed)


def test_without_replay_nothing_general_trains_and_all_of_a_small_domain_does():
    domain = corpus("domain", [9, 30, 12])
    assert sorted(map(len, with_replay(domain, corpus("general", [9]), 0.0, 1000, 0))) == [9, 12, 30]


def test_a_small_domain_shortens_the_pass_and_keeps_the_share():
    mixed = with_replay(corpus("domain", [10] * 9), corpus("general", [10] * 50), 0.1, 1000, 0)
    assert (tokens(mixed, "domain"), tokens(mixed, "general")) == (90, 10)


def test_the_draw_is_a_function_of_the_seed():
    domain, general = corpus("domain", [10] * 50), corpus("general", [10] * 50)
    first, again, other = (
        [sequence.id for sequence in with_replay(domain, general, 0.5, 200, seed)] for seed in (0, 0, 1)
    )
    assert first == again != other


def test_too_little_general_text_is_refused_with_the_numbers():
    with pytest.raises(
        ValueError, match=r"pretrain\.replay=0\.5 of 100 tokens is 50 tokens of general text, and .* 20\."
    ):
        with_replay(corpus("domain", [10] * 50), corpus("general", [10, 10]), 0.5, 100, 0)


@given(lengths, st.integers(0, 400))
def test_no_document_is_both_looked_at_and_trained_on(general_lengths, budget):
    general = corpus("general", general_lengths)
    probe, rest = set_aside(general, budget)
    assert not {sequence.id for sequence in probe} & {sequence.id for sequence in rest}
    assert {sequence.id for sequence in probe} | {sequence.id for sequence in rest} == {s.id for s in general}
    size = tokens(probe, "general")
    assert size >= min(budget, tokens(general, "general"))
    assert size < budget + PACK
