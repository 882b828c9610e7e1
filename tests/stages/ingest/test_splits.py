"""Groups stay whole, shares are met, and the same seed gives the same split."""

import json
import random
from collections import Counter
from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.records import Document, Example, Message
from tasks.io import columns
from tasks.stages.ingest.config import IngestConfig, TextFile
from tasks.stages.ingest.reading.documents import read_documents
from tasks.stages.ingest.splits import (
    SPLITS,
    Drawing,
    Group,
    Groups,
    codes,
    in_order,
    split_by_name,
    split_by_size,
    split_documents,
)  # fmt: skip

SHARES = {"valid": 0.1, "test": 0.2}


def split_examples(examples, settings):
    """The split of each group."""
    drawing = Drawing(settings)
    drawing.add(columns.frame(examples, Example))
    return drawing.draw().of(example.group for example in examples)


def assigned(split, members, shares, seed, fixed=None):
    """The split of each group by its name."""
    ordered = in_order(members, seed)
    drawn = split(Groups.of(ordered, seed), shares, codes(ordered, fixed or {}))
    return {group.name: SPLITS[code] for group, code in zip(ordered, drawn, strict=True)}


def by_size(members, shares, seed, fixed=None):
    return assigned(split_by_size, members, shares, seed, fixed)


def by_name(members, shares, seed):
    return assigned(split_by_name, members, shares, seed)


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
    splits = by_size(members, SHARES, seed)
    total = sum(group.size for group in members)
    assert set(splits) == {group.name for group in members}
    assert sum(sizes(members, splits).values()) == total
    strata = len({group.stratum for group in members})
    for split, share in SHARES.items():
        assert sizes(members, splits)[split] <= share * total + strata + 1  # a stratum rounds by less than one


@given(groups, st.integers(0, 5))
def test_the_order_of_the_groups_does_not_matter(members, seed):
    assert by_size(members, SHARES, seed) == by_size(members[::-1], SHARES, seed)


def test_shares_are_met_to_the_item_where_groups_are_small():
    members = [Group(f"{stratum}{number}", stratum, 1) for stratum in "xy" for number in range(100)]
    splits = by_size(members, SHARES, 0)
    assert sizes(members, splits) == {"train": 140, "valid": 20, "test": 40}
    assert sizes(members[:100], splits) == {"train": 70, "valid": 10, "test": 20}


def test_other_strata_make_up_for_one_large_group():
    members = [Group("whole", "x", 100), *(Group(f"y{number}", "y", 1) for number in range(100))]
    splits = by_size(members, SHARES, 0)
    assert splits["whole"] == "train"
    assert sizes(members, splits) == {"train": 140, "valid": 20, "test": 40}


def test_another_seed_draws_other_groups():
    members = [Group(str(number), "x", 1) for number in range(50)]
    assert by_size(members, SHARES, 0) != by_size(members, SHARES, 1)


@given(groups, groups, st.integers(0, 5))
def test_what_the_gate_holds_is_never_trained_on_however_the_data_grow(before, more, seed):
    shares = SHARES | {"gate": 0.3}
    names = {group.name for group in before}
    after = [*before, *(group for group in more if group.name not in names)]
    first, later = by_size(before, shares, seed), by_size(after, shares, seed)
    assert not {(first[name], later[name]) for name in names} & {("gate", "train"), ("train", "gate")}


def test_the_gate_takes_its_share_of_what_trains_and_leaves_the_other_splits():
    members = [Group(str(number), "x", 1) for number in range(4000)]
    without, splits = by_size(members, SHARES, 0), by_size(members, SHARES | {"gate": 0.1}, 0)
    assert [n for n, split in splits.items() if split != without[n]] == [n for n, s in splits.items() if s == "gate"]
    assert 343 <= sizes(members, splits)["gate"] <= 457  # 400 of 4,000 ± 3 standard deviations


def test_fixed_groups_keep_their_split_and_count():
    members = [Group(str(number), "x", 1) for number in range(10)]
    fixed = {"0": "test", "1": "test", "2": "train"}
    splits = by_size(members, SHARES, 0, fixed)
    assert {name: splits[name] for name in fixed} == fixed
    assert sizes(members, splits) == {"train": 7, "valid": 1, "test": 2}


def config(**splits):
    return IngestConfig.model_validate({"sources": [{"from": "file", "path": "a"}], "splits": {"gate": 0.1} | splits})


@pytest.mark.parametrize("by", ["size", "name"])
@pytest.mark.parametrize("number", [4, 5, 9, 12])
def test_few_groups_leave_no_split_empty(number, by):
    messages = [Message("user", "Why?"), Message("assistant", "Because.")]
    examples = [Example(str(n), messages, "chat", "d", f"group {n}", "train", "s", "unknown") for n in range(number)]
    splits = split_examples(examples, config(by=by))
    assert set(splits.values()) == {"train", "valid", "test", "gate"}
    assert Counter(splits.values())["train"] >= (number / 4 if by == "size" else 1)


HELD_OUT = {"valid": 0.1, "test": 0.15, "gate": 0.1}


@given(groups, groups, st.integers(0, 5))
def test_by_name_no_group_ever_changes_its_split_however_the_data_grow(before, more, seed):
    names = {group.name for group in before}
    after = [*(group for group in more if group.name not in names), *before]
    first, later = by_name(before, HELD_OUT, seed), by_name(after, HELD_OUT, seed)
    assert first == {name: later[name] for name in first}


def test_by_size_groups_move_as_the_data_grow():
    """The reason why there is a choice."""
    members = [Group(str(number), "x", 1) for number in range(400)]
    first, later = by_size(members[:200], HELD_OUT, 0), by_size(members, HELD_OUT, 0)
    assert any(first[name] != later[name] for name in first)


@pytest.mark.parametrize("number", [100, 1_000, 10_000])
def test_by_name_the_shares_drift_no_more_than_chance_has_it(number):
    """Over twenty seeds and two strata: within 4 standard deviations in each, and on average within 4 of their mean."""
    members = [Group(f"group {n}", "xy"[n % 2], 1) for n in range(number)]
    drifts = {split: [] for split in HELD_OUT}
    for seed in range(20):
        splits = by_name(members, HELD_OUT, seed)
        for stratum in "xy":
            drawn = [splits[group.name] for group in members if group.stratum == stratum]
            for split, share in HELD_OUT.items():
                spread = sqrt(share * (1 - share) / len(drawn))
                drifts[split].append((drawn.count(split) / len(drawn) - share) / spread)
    for split, values in drifts.items():
        assert max(map(abs, values)) < 4, split
        assert abs(sum(values) / len(values)) < 4 / sqrt(len(values)), split


def test_by_name_a_larger_share_takes_from_train_and_returns_nothing_to_it():
    members = [Group(str(number), "x", 1) for number in range(1_000)]
    small, large = (by_name(members, HELD_OUT | {"test": share}, 0) for share in (0.15, 0.25))
    assert all(large[name] == "test" for name, split in small.items() if split == "test")
    assert not any(large[name] == "train" for name, split in small.items() if split != "train")


def test_by_name_the_gate_is_the_one_by_size_for_what_neither_tests_nor_steers():
    members = [Group(str(number), "x", 1) for number in range(1_000)]
    sized, named = by_size(members, HELD_OUT, 0), by_name(members, HELD_OUT, 0)
    rest = [name for name in sized if {sized[name], named[name]} <= {"train", "gate"}]
    assert len(rest) > 500
    assert all(sized[name] == named[name] for name in rest)


def row(place, prompt):
    messages = [Message("user", prompt), Message("assistant", f"Answer {place}.")]
    source = f"file a.jsonl: line {place}"
    return Example(f"{prompt} {place}", messages, "chat", "d", source, "train", source, "MIT")


def test_by_name_a_row_keeps_its_split_wherever_it_stands_and_shares_it_with_rows_of_its_prompt():
    prompts = [f"Prompt {n}?" for n in range(200)]
    moved = random.Random(0).sample(prompts, len(prompts))
    first, later = (
        {prompt: splits[f"file a.jsonl: line {place}"] for place, prompt in enumerate(order)}
        for order in (prompts, moved)
        for splits in [split_examples([row(place, prompt) for place, prompt in enumerate(order)], config(by="name"))]
    )
    assert first == later
    twins = split_examples(
        [row(1, "Same?"), row(2, "Same?"), *(row(n, f"{n}?") for n in range(3, 40))], config(by="name")
    )
    assert twins["file a.jsonl: line 1"] == twins["file a.jsonl: line 2"]


def test_by_name_a_text_of_a_table_keeps_its_split_wherever_it_stands(tmp_path):
    source = TextFile(**{"from": "file", "path": tmp_path / "a.jsonl", "text": "text"})
    texts = [f"Text {number}." for number in range(200)]

    def drawn(order):
        source.path.write_text("".join(json.dumps({"text": text}) + "\n" for text in order))
        documents = list(read_documents(source, "domain"))
        splits = split_documents(documents, ["s"] * len(documents), config(by="name"), {})
        return {document.text: split for document, split in zip(documents, splits, strict=True)}

    assert drawn(texts) == drawn(random.Random(0).sample(texts, len(texts)))


def test_by_name_documents_follow_examples_and_no_corpus_lacks_a_split():
    documents = [
        Document(f"{domain}{n}", f"text {domain} {n}", domain, f"{domain}/{n}.md", "train", f"{n}.md", "MIT")
        for domain in ("domain", "general")
        for n in range(5)
    ]
    fixed = {"domain/0.md": "test", "domain/1.md": "train"}
    splits = split_documents(documents, ["s"] * 10, config(by="name"), fixed)
    assert splits[:2] == ["test", "train"]
    for start in (0, 5):
        assert {"train", "valid", "test", "gate"} == set(splits[start : start + 5])
    assert splits == split_documents(documents, ["s"] * 10, config(by="name"), fixed)


def examples(*sizes):
    """Examples in groups of these sizes."""
    messages = [Message("user", "Why?"), Message("assistant", "Because.")]
    groups = [f"group {number}" for number, size in enumerate(sizes) for _ in range(size)]
    return [Example(str(n), messages, "chat", "d", group, "train", "s", "unknown") for n, group in enumerate(groups)]


def drawn(*sizes, **splits):
    config = IngestConfig.model_validate({"sources": [{"from": "file", "path": "a"}], "splits": splits})
    return split_examples(examples(*sizes), config)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_of_too_few_groups_one_trains(number):
    assert Counter(drawn(*[1] * number, gate=0.1).values())["train"] >= 1


@pytest.mark.parametrize("by", ["size", "name"])
@pytest.mark.parametrize("seed", range(5))
def test_three_groups_are_one_for_each_split_but_the_gate(by, seed):
    splits = split_examples(examples(5, 1, 3), config(by=by).model_copy(update={"seed": seed}))
    assert set(splits.values()) == {"train", "valid", "test"}


@pytest.mark.parametrize("by", ["size", "name"])
@pytest.mark.parametrize("number", range(3, 13))
def test_of_few_texts_no_split_that_a_corpus_needs_is_empty(by, number):
    documents = [Document(str(n), "word " * 50, "domain", f"{n}.md", "train", f"{n}.md", "MIT") for n in range(number)]
    assert {"train", "test", "gate"} <= set(split_documents(documents, ["s"] * number, config(by=by), {}))


def test_a_split_that_has_no_share_stays_empty():
    assert set(drawn(1, 1, 1, 1, 1).values()) == {"train", "valid", "test"}


def test_an_empty_split_takes_the_smallest_group_that_trains():
    splits = drawn(50, 7, 60, 5, 70, valid=0.01, test=0.01)
    assert {name: split for name, split in splits.items() if split != "train"} == {
        "group 3": "test",
        "group 1": "valid",
    } or {name: split for name, split in splits.items() if split != "train"} == {"group 3": "valid", "group 1": "test"}


@given(groups, st.integers(0, 5), st.integers(1, 4), st.sampled_from(["size", "name"]))
def test_examples_in_many_blocks_are_split_as_their_groups_are(members, seed, num_blocks, by):
    settings = config(by=by).model_copy(update={"seed": seed})
    examples = [
        Example("id", [], "chat", group.stratum, group.name, "train", "source", "MIT")
        for group in members
        for _ in range(group.size)
    ]
    drawing, size = Drawing(settings), -(-len(examples) // num_blocks) or 1
    for start in range(0, len(examples), size):
        drawing.add(columns.frame(examples[start : start + size], Example))
    drawn = drawing.draw()
    assign = by_name if by == "name" else by_size
    shares = HELD_OUT if len(members) > 3 else HELD_OUT | {"gate": 0.0}  # of three groups none is the gate's
    splits, of_groups = assign(members, shares, seed), drawn.of(group.name for group in members)
    assert [SPLITS[code] for code in drawn.of_records] == [of_groups[example.group] for example in examples]
    moved = {of_groups[name] for name, split in splits.items() if of_groups[name] != split}
    assert moved <= set(SPLITS) - set(splits.values())  # a split that was empty has one group
    assert drawn.of(["no such group"]) == {}
