"""A mixture sees the domains as often as weights, temperature and budgets say, and another draw in every epoch."""

from collections import Counter

import pytest

from tasks.core.sequences import Encoded
from tasks.engine.packing import schedule
from tasks.engine.sequences import listed
from tasks.stages.tune.config import Mixture
from tasks.stages.tune.mixture import mix, passes_by_domain
from tests import tiny as small

TOKENS = {"large": 8_000, "small": 2_000}
ROWS = [small.example(n, domain="large" if n < 80 else "small") for n in range(100)]
SEQUENCES = listed(Encoded(row.id, [n] * 10, [1.0] * 10, domain=row.domain) for n, row in enumerate(ROWS))


def passes(**settings):
    return passes_by_domain(TOKENS, Mixture.model_validate(settings))


def domains_of(packs):
    names = {row.id: row.domain for row in ROWS}
    return Counter(names[sequence.id] for pack in packs for sequence in pack.sequences)


def test_without_settings_everything_is_seen_once():
    assert passes() == {"large": 1.0, "small": 1.0}


def test_a_weight_is_the_times_that_an_epoch_sees_a_domain():
    assert passes(domains={"small": {"weight": 3}}) == {"large": 1.0, "small": 3.0}


def test_a_temperature_keeps_the_epochs_length_and_evens_the_parts_out():
    warm = passes(temperature=2)
    parts = {name: warm[name] * TOKENS[name] for name in TOKENS}
    assert sum(parts.values()) == pytest.approx(10_000)
    assert parts["large"] / parts["small"] == pytest.approx(2.0), "the root of 4"
    hot = passes(temperature=1e9)
    assert hot["large"] * 8_000 == pytest.approx(hot["small"] * 2_000, rel=1e-3)


def test_a_budget_is_a_limit_and_no_aim():
    assert passes(domains={"large": {"max_tokens": 2_000}, "small": {"max_tokens": 9_000}}) == {
        "large": 0.25,
        "small": 1,
    }


def test_an_unknown_domain_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match=r"names tiny.*There are: large, small"):
        passes(domains={"tiny": {"weight": 2}})


def test_a_mixture_of_nothing_is_refused():
    with pytest.raises(ValueError, match="nothing trains"):
        mix(SEQUENCES, Mixture.model_validate({"domains": {"large": {"weight": 0}, "small": {"weight": 0}}}))


def test_an_epoch_sees_as_many_sequences_as_the_mixture_says_and_the_next_one_others():
    mixture = Mixture.model_validate({"domains": {"large": {"weight": 0.25}, "small": {"weight": 2.5}}})
    mixed, parts = mix(SEQUENCES, mixture)
    assert parts["large"].share == pytest.approx(200 / 700)
    first, both = (schedule(mixed, 40, 10**9, epochs, seed=0) for epochs in (1, 2))
    assert domains_of(first)["large"] in (20, 21)
    assert domains_of(first)["small"] in (50, 51)
    second = both[len(first) :]
    ids = [{s.id for pack in packs for s in pack.sequences if s.passes < 1} for packs in (first, second)]
    assert ids[0] != ids[1]


def test_sequences_that_are_seen_once_are_scheduled_as_without_a_mixture():
    mixed, _ = mix(SEQUENCES, Mixture.model_validate({"domains": {"small": {"weight": 2}}}))
    plain = schedule(SEQUENCES, 40, 10**9, 2, seed=0)
    assert [[s.id for s in pack.sequences] for pack in schedule(mixed[:80], 40, 10**9, 2, seed=0)] == [
        [s.id for s in pack.sequences] for pack in schedule(SEQUENCES[:80], 40, 10**9, 2, seed=0)
    ]
    assert domains_of(plain) == {"large": 160, "small": 40}
    assert domains_of(schedule(mixed, 40, 10**9, 1, seed=0)) == {"large": 80, "small": 40}
