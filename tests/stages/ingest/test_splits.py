"""Groups stay whole, shares are met, and the same seed gives the same split."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.records import Example, Message
from tasks.stages.ingest.config import IngestConfig
from tasks.stages.ingest.splits import Group, assign_splits, split_examples

SHARES = {"valid": 0.1, "test": 0.2}
groups = st.lists(
    st.builds(Group, st.text("abcdef", min_size=1, max_size=5), st.sampled_from("xyz"), st.integers(1, 20)),
    unique_by=lambda group: group.name,
    max_size=60,
)


def sizes(members, splits):
    counts = Counter()
    for group in members:
        counts[splits[group.name]] += group.size
    return counts


@given(groups, st.integers(0, 5))
def test_every_group_has_one_split_and_no_split_is_overfull(members, seed):
    splits = assign_splits(members, SHARES, seed)
    total = sum(group.size for group in members)
    assert set(splits) == {group.name for group in members}
    assert sum(sizes(members, splits).values()) == total
    strata = len({group.stratum for group in members})
    for split, share in SHARES.items():
        assert sizes(members, splits)[split] <= share * total + strata + 1  # a stratum rounds by less than one


@given(groups, st.integers(0, 5))
def test_the_order_of_the_groups_does_not_matter(members, seed):
    assert assign_splits(members, SHARES, seed) == assign_splits(members[::-1], SHARES, seed)


def test_shares_are_met_to_the_item_where_groups_are_small():
    members = [Group(f"{stratum}{number}", stratum, 1) for stratum in "xy" for number in range(100)]
    splits = assign_splits(members, SHARES, 0)
    assert sizes(members, splits) == {"train": 140, "valid": 20, "test": 40}
    assert sizes(members[:100], splits) == {"train": 70, "valid": 10, "test": 20}


def test_other_strata_make_up_for_one_large_group():
    members = [Group("whole", "x", 100), *(Group(f"y{number}", "y", 1) for number in range(100))]
    splits = assign_splits(members, SHARES, 0)
    assert splits["whole"] == "train"
    assert sizes(members, splits) == {"train": 140, "valid": 20, "test": 40}


def test_another_seed_draws_other_groups():
    members = [Group(str(number), "x", 1) for number in range(50)]
    assert assign_splits(members, SHARES, 0) != assign_splits(members, SHARES, 1)


@given(groups, groups, st.integers(0, 5))
def test_what_the_gate_holds_is_never_trained_on_however_the_data_grow(before, more, seed):
    shares = SHARES | {"gate": 0.3}
    names = {group.name for group in before}
    after = [*before, *(group for group in more if group.name not in names)]
    first, later = assign_splits(before, shares, seed), assign_splits(after, shares, seed)
    assert not {(first[name], later[name]) for name in names} & {("gate", "train"), ("train", "gate")}


def test_the_gate_takes_its_share_of_what_trains_and_leaves_the_other_splits():
    members = [Group(str(number), "x", 1) for number in range(1000)]
    without, splits = assign_splits(members, SHARES, 0), assign_splits(members, SHARES | {"gate": 0.1}, 0)
    assert [n for n, split in splits.items() if split != without[n]] == [n for n, s in splits.items() if s == "gate"]
    assert 70 <= sizes(members, splits)["gate"] <= 130  # 100 ± 3 standard deviations


def test_fixed_groups_keep_their_split_and_count():
    members = [Group(str(number), "x", 1) for number in range(10)]
    fixed = {"0": "test", "1": "test", "2": "train"}
    splits = assign_splits(members, SHARES, 0, fixed)
    assert {name: splits[name] for name in fixed} == fixed
    assert sizes(members, splits) == {"train": 7, "valid": 1, "test": 2}


@pytest.mark.parametrize("number", [4, 5, 9, 12])
def test_few_groups_leave_no_split_empty(number):
    config = IngestConfig.model_validate({"sources": [{"from": "file", "path": "a"}], "splits": {"gate": 0.1}})
    messages = [Message("user", "Why?"), Message("assistant", "Because.")]
    examples = [Example(str(n), messages, "chat", "d", f"group {n}", "train", "s", "unknown") for n in range(number)]
    splits = split_examples(examples, config)
    assert set(splits.values()) == {"train", "valid", "test", "gate"}
    assert Counter(splits.values())["train"] >= number / 4
