"""Nothing that is held out, and nothing like it, is trained on; and every record is accounted for."""

import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tasks.core.records import Example, Refusal, Tests
from tasks.io import tables
from tasks.stages.ingest.filtering.examples import Filter
from tasks.stages.ingest.outputs import kept_of_files, refused_examples, write_examples
from tasks.stages.ingest.quarantine import Sourced
from tasks.stages.ingest.shards.collection import Reader, Shards
from tasks.stages.ingest.shards.parts import MadePart
from tests.stages.ingest.filtering.records import HELD_OUT, SPLITS, WORDS, example, passage, settings
from tests.support import ScratchRun


def no_embedder(texts):
    raise AssertionError("cosine is off")


def filtered(examples, benchmark=(), embed=no_embedder, **changes):
    config = settings(**changes)
    with tempfile.TemporaryDirectory() as folder:
        scratch, run = Path(folder), ScratchRun(Path(folder))
        reader = Reader(config, scratch / "cache", scratch, run)
        (held_out, _), (made, _) = (
            reader.read([MadePart([Sourced("made", row) for row in rows])]) for rows in (benchmark, examples)
        )
        shards = Shards([*held_out, *made])
        decisions = Filter(shards, len(benchmark), config, scratch, run).apply(embed)
        refused = refused_examples(shards, decisions, config, scratch / "refused")
        refusals = [Refusal(*row) for row in refused.collect().iter_rows()]
        paths = {split: scratch / f"{split}.parquet" for split in ("train", *HELD_OUT)}
        write_examples(paths, scratch / "benchmark.parquet", shards, decisions)
        kept = [record for path in paths.values() for record in tables.read(path, Example)]
        assert tables.read(scratch / "benchmark.parquet", Example) == [replace(row, split="test") for row in benchmark]
        num_kept = kept_of_files(shards, decisions)["made"] - len(benchmark)
    assert len(kept) == num_kept
    assert len(examples) == num_kept + len(refusals)
    order = {example.id: place for place, example in enumerate(examples)}
    kept.sort(key=lambda record: order[record.id])
    groups = decisions.drawn.of({example.group for example in examples})
    return kept, groups, SimpleNamespace(refusals=refusals)


def test_strangers_all_stay_and_no_group_is_cut():
    kept, groups, _ = filtered([example(number, group=f"g{number // 3}") for number in range(90)])
    assert Counter(record.split for record in kept) == {"train": 69, "valid": 9, "test": 12}
    assert all(record.split == groups[record.group] for record in kept)


def test_an_equal_row_is_merged_whatever_its_white_space():
    rows = [example(number) for number in range(20)]
    again = example(99, prompt=rows[3].messages[0].content.replace(" ", "  "), response=rows[3].response)
    kept, _, quarantine = filtered([*rows, again])
    assert len(kept) == 20
    assert [(refusal.where, refusal.reason) for refusal in quarantine.refusals] == [("row 99", "duplicate")]


def planted(split, side, text_of):
    """Keep forty rows and one of a training group, whose `side` is made of a held-out row's; return both, and what is kept of all."""
    rows = [example(number) for number in range(40)]
    _, groups, _ = filtered(rows, splits=SPLITS)
    held_out = next(row for row in rows if groups[row.group] == split)
    trained = next(row for row in rows if groups[row.group] == "train")
    text = held_out.response if side == "response" else held_out.messages[0].content
    copy = example(500, group=trained.group, **{side: text_of(text)})
    kept, groups, quarantine = filtered([*rows, copy], splits=SPLITS)
    assert groups[copy.group] == "train"
    return held_out, copy, {record.id for record in kept}, quarantine.refusals


@pytest.mark.parametrize("split", HELD_OUT)
@pytest.mark.parametrize("side", ["prompt", "response"])
def test_a_near_copy_of_a_held_out_row_is_not_trained_on(side, split):
    held_out, copy, kept, refusals = planted(split, side, lambda text: f"{text} indeed")
    assert held_out.id in kept
    assert copy.id not in kept
    assert [(refusal.where, refusal.reason) for refusal in refusals] == [("row 500", "leak")]
    alike = "similarity 0.98"  # 58 of 59 runs of three words
    assert refusals[0].detail == f"too like {held_out.source} ({split}), {alike} of the {side}s"


@pytest.mark.parametrize("split", HELD_OUT)
@pytest.mark.parametrize("side", ["prompt", "response"])
def test_a_text_that_holds_that_of_a_held_out_row_is_not_trained_on(side, split):
    held_out, copy, kept, refusals = planted(
        split, side, lambda text: f"{passage(7001, 90)} {text} {passage(7002, 90)}"
    )
    assert held_out.id in kept
    assert copy.id not in kept
    assert [(refusal.where, refusal.reason) for refusal in refusals] == [("row 500", "leak")]
    assert refusals[0].detail == f"overlaps {held_out.source}"


@pytest.mark.parametrize(("split", "other"), [("test", "gate"), ("test", "valid"), ("gate", "valid")])
def test_of_two_held_out_rows_alike_the_one_that_is_reported_or_promotes_stays(split, other):
    rows = [example(number) for number in range(40)]
    _, groups, _ = filtered(rows, splits=SPLITS)
    first, second = (next(row for row in rows if groups[row.group] == name) for name in (split, other))
    copy = example(500, group=second.group, response=f"{first.response} indeed")
    kept, _, quarantine = filtered([copy, *rows], splits=SPLITS)
    assert {first.id, second.id} <= {record.id for record in kept}
    assert [(refusal.where, refusal.reason) for refusal in quarantine.refusals] == [("row 500", "leak")]


@pytest.mark.parametrize("split", HELD_OUT)
def test_a_short_prompt_of_a_held_out_row_is_not_trained_on(split):
    rows = [example(number, prompt=f"Capital of {WORDS[number]}?") for number in range(40)]
    _, groups, _ = filtered(rows, splits=SPLITS)
    held_out = next(row for row in rows if groups[row.group] == split)
    trained = next(row for row in rows if groups[row.group] == "train")
    same = example(500, group=trained.group, prompt=held_out.messages[0].content.replace(" ", "  "))
    other = example(501, group=trained.group, prompt=held_out.messages[0].content.replace("?", "!"))
    again = example(502, group=held_out.group, prompt=held_out.messages[0].content)
    kept, _, quarantine = filtered([*rows, same, other, again], splits=SPLITS)
    assert [record.id for record in kept] == [*(row.id for row in rows), other.id, again.id]
    detail = f"too like {held_out.source} ({split}), similarity 1.00 of the prompts"
    assert [(row.where, row.reason, row.detail) for row in quarantine.refusals] == [("row 500", "leak", detail)]


@pytest.mark.parametrize(
    "copy",
    [
        "Capital of Burkina Faso?",
        "CAPITAL of Burkina Faso？",
        "Capital of <b>Burkina</b>&nbsp;Faso?",
        "Cap\u200bital of Burkina Faso?",
    ],
)
def test_a_short_prompt_of_the_benchmark_is_not_trained_on(copy):
    item = replace(example(900, prompt="Capital of Burkina Faso?"), split="test")
    leak = example(500, prompt=copy)
    kept, _, quarantine = filtered([*(example(number) for number in range(20)), leak], [item])
    assert len(kept) == 20
    assert [(refusal.where, refusal.reason) for refusal in quarantine.refusals] == [("row 500", "leak")]


def test_short_responses_and_a_prompt_that_all_rows_share_may_be_equal_in_two_splits():
    assert len(filtered([example(number, response="yes") for number in range(40)])[0]) == 40
    assert len(filtered([example(number, prompt="Continue.") for number in range(40)])[0]) == 40


def test_of_near_copies_within_train_the_first_stays():
    rows = [example(number) for number in range(40)]
    _, groups, _ = filtered(rows)
    trained = next(row for row in rows if groups[row.group] == "train")
    copy = example(500, group=trained.group, response=f"{trained.response} indeed")
    kept, _, quarantine = filtered([*rows, copy])
    assert [record.id for record in kept] == [row.id for row in rows]
    assert [(refusal.where, refusal.reason) for refusal in quarantine.refusals] == [("row 500", "near-duplicate")]


def test_what_overlaps_a_benchmark_is_not_kept_and_the_benchmark_is():
    benchmark = [replace(example(900), split="test"), replace(example(901, response=passage(1801)), split="test")]
    leak = example(500, response=f"{passage(7, 100)} {benchmark[1].response} {passage(8, 100)}")
    kept, groups, quarantine = filtered([*(example(number) for number in range(40)), leak], benchmark)
    assert groups[leak.group] == "train"
    assert leak.id not in {record.id for record in kept}
    assert quarantine.refusals[0].reason == "leak"


def test_a_copy_of_a_benchmarks_item_is_refused_by_the_first_rule_that_finds_it():
    item = replace(example(900, response=passage(1801, 30)), split="test")
    equal = replace(example(500), messages=item.messages)
    near = example(501, response=f"{item.response} indeed")
    kept, _, quarantine = filtered([*(example(number) for number in range(20)), equal, near], [item])
    assert len(kept) == 20
    assert [(refusal.where, refusal.reason, refusal.detail) for refusal in quarantine.refusals] == [
        ("row 500", "leak", "the same as row 900"), ("row 501", "leak", "too like row 900 (test), similarity 0.97 of the responses"),
    ]  # fmt: skip


def test_a_prompt_and_a_response_have_a_length_each():
    rows = [example(1, prompt="why " * 80, response="Because."), example(2, prompt="Why?", response="so " * 80)]
    for name, left_out in (("max_prompt_chars", "row 1"), ("max_response_chars", "row 2")):
        limits = {"max_prompt_chars": 1000, "max_response_chars": 1000, name: 200}
        _, _, quarantine = filtered(rows, **limits)
        assert [(refusal.where, refusal.reason) for refusal in quarantine.refusals] == [(left_out, "too long")]


def test_an_embedding_finds_a_copy_in_other_words():
    rows = [example(number) for number in range(20)]

    def embed(texts):
        vectors = np.eye(len(texts), dtype=np.float32)
        vectors[5] = vectors[4]
        return vectors

    kept, _, quarantine = filtered(rows, embed=embed, near_duplicates={"jaccard": None, "cosine": 0.95})
    assert len(kept) == 19
    assert quarantine.refusals[0].where in ("row 4", "row 5")
    assert quarantine.refusals[0].detail.endswith(", by embedding")


def test_generated_tasks_may_share_their_wording():
    wording = passage(0, 40)
    rows = [
        example(number, prompt=f"{wording} {number}", response=str(number), tests=Tests("answer", "sum", "{}"))
        for number in range(8)  # of more the wording would be a template's
    ]
    kept, _, _ = filtered(rows)
    assert len(kept) == 8


def test_limits_of_length_and_number_are_reported():
    rows = [example(number) for number in range(12)]
    kept, _, quarantine = filtered([*rows, example(50, response=passage(1, 2000))], max_examples=10)
    assert len(kept) == 10
    assert Counter(refusal.reason for refusal in quarantine.refusals) == {"too long": 1, "over the limit": 2}


def judged(number, prompt, response, **fields):
    return replace(example(number, group="prompt", prompt=prompt, response=response), **fields)


def test_answers_to_one_prompt_that_are_compared_are_all_kept_and_copies_are_merged():
    prompt, response, worse = passage(1), passage(2), passage(3)
    rows = [
        judged(1, prompt, response, rejected=worse),
        judged(2, prompt, response, rejected=passage(4)),
        judged(3, prompt, response, desirable=True),
        judged(4, prompt, worse, desirable=False),
        judged(5, prompt, response, rejected=f" {worse}\n"),
    ]
    kept, _, quarantine = filtered(rows)
    assert [row.id for row in kept] == ["row 1", "row 2", "row 3", "row 4"]
    assert [refusal.reason for refusal in quarantine.refusals] == ["duplicate"]


def test_a_pair_whose_conversation_is_held_out_is_a_leak():
    held_out = example(1)
    rows = [replace(held_out, id="pair", source="pair", rejected="no"), example(2)]
    kept, _, quarantine = filtered(rows, [held_out])
    assert [row.id for row in kept] == ["row 2"]
    assert quarantine.refusals[0].reason == "leak"


def test_a_rejected_answer_may_not_be_longer_than_a_response():
    kept, _, _ = filtered([judged(1, "Why?", "Because.", rejected="no " * 100)], max_response_chars=200)
    assert kept == []
