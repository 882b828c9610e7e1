"""Nothing that is held out, and nothing like it, is trained on; and every record is accounted for."""

import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tasks.core.records import Document, Example, Message, Refusal, Tests
from tasks.core.text.contamination import find_overlaps, sides
from tasks.core.text.texts import Selection, Texts
from tasks.io import tables
from tasks.stages.ingest.config import IngestConfig
from tasks.stages.ingest.corpus import Corpus
from tasks.stages.ingest.filtering.documents import cut_lone_documents, filter_and_split_documents
from tasks.stages.ingest.filtering.examples import Filter
from tasks.stages.ingest.outputs import kept_of_files, refused_examples, write_examples
from tasks.stages.ingest.quarantine import Quarantine, Sourced
from tasks.stages.ingest.shards.collection import Reader, Shards
from tasks.stages.ingest.shards.parts import MadePart
from tests.support import ScratchRun

WORDS = [f"word{number}" for number in range(5000)]
HELD_OUT = ("valid", "test", "gate")
SPLITS = {"valid": 0.15, "test": 0.15, "gate": 0.15}


def passage(seed, length=60):
    return " ".join(np.random.default_rng(seed).choice(WORDS, length))


def no_embedder(texts):
    raise AssertionError("cosine is off")


def settings(**changes):
    near = {"jaccard": 0.7, "cosine": None}
    sources = [{"from": "file", "path": "rows.jsonl"}]
    return IngestConfig.model_validate({"sources": sources, "near_duplicates": near, **changes})


def example(number, group=None, prompt=None, response=None, domain="made", tests=None):
    messages = [
        Message("user", prompt or passage(2 * number)),
        Message("assistant", response or passage(2 * number + 1)),
    ]
    place = f"row {number}"
    return Example(place, messages, "chat", domain, group or place, "train", place, "MIT", tests)


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


# Corpora


def module(name, seed, header="made by one"):
    functions = [
        f"def function_{seed}_{part}(value):\n    # step\n    return {passage(100 * seed + part, 40)!r}"
        for part in range(6)
    ]
    text = f"# {header}\n# notice\n\n" + "\n\n\n".join(functions) + "\n"
    return Document(name, text, "domain", name, "train", f"{name}.py", "MIT")


def filtered_texts(documents, groups, modules=(), evaluation=(), jaccard=0.7, **changes):
    quarantine = Quarantine()
    items = list(quarantine.receive("code", documents))
    corpora = {"domain": [{"from": "package", "name": "made"}], "piece_chars": 600, **changes}
    config = settings(corpora=corpora, splits=SPLITS, near_duplicates={"jaccard": jaccard, "cosine": None})

    with tempfile.TemporaryDirectory() as name:
        folder, held_out = Path(name), sides(evaluation)

        def overlapping(training):
            of_examples = Selection.all(Texts.of(held_out))
            pairs = find_overlaps(training, of_examples, config.contamination, folder / "overlaps") if held_out else {}
            return {text: held_out[side] for text, side in pairs.items()}

        corpus = Corpus(folder / "uncut")
        corpus.add(items)
        kept = filter_and_split_documents(corpus, modules, groups, overlapping, config, quarantine, folder)
        line = quarantine.balance({"code": len(kept.items)})["code"]
        assert line["read"] == line["kept"] + line["merged"] + sum(line["refused"].values())
        refusals = [Refusal(*row) for row in quarantine.table().collect().iter_rows()]
        records = [item.record for _, item in kept.corpus.read(kept.numbers)]
    return records, SimpleNamespace(refusals=refusals)


def test_a_module_follows_the_split_of_its_examples():
    documents = [module(f"m{number}", number) for number in range(10)]
    groups = {"m2": "test", "m5": "valid", "m7": "train"}
    kept, _ = filtered_texts(documents, groups)
    splits = {record.group: record.split for record in kept}
    assert {name: splits[name] for name in groups} == groups
    assert len(splits) == 10


def test_few_documents_are_cut_into_groups_unless_their_group_has_examples(tmp_path):
    corpora = {"domain": [{"from": "package", "name": "made"}], "piece_chars": 600}
    config, quarantine, corpus = settings(corpora=corpora, splits=SPLITS), Quarantine(), Corpus(tmp_path / "uncut")
    corpus.add(quarantine.receive("code", [module("m1", 1), module("m2", 2)]))
    cut = cut_lone_documents(corpus, {"m1": "test"}, config, quarantine, tmp_path / "parts")
    groups = [document.group for document in cut.documents]
    num_parts = len(groups) - 1
    assert groups == ["m1", *(f"m2 §{number}" for number in range(1, num_parts + 1))]
    assert num_parts > 1
    texts = [item.record.text for _, item in cut.read(range(1, len(cut)))]
    assert max(map(len, texts)) <= 600
    assert "".join(texts).replace("\n", "") == module("m2", 2).text.replace("\n", "")
    corpus.add(quarantine.receive("code", [module("m3", 3)]))
    assert cut_lone_documents(corpus, {}, config, quarantine, tmp_path / "none") is corpus


@pytest.mark.parametrize("split", HELD_OUT)
def test_a_copy_of_a_held_out_module_under_another_name_is_not_trained_on(split):
    original = module("library.core", 1)
    copy = replace(module("vendored.core", 1, header="made by another"), id="copy")
    copy = replace(copy, text=copy.text.replace("# step", "# a step"))
    others = [module(f"m{number}", number) for number in range(10, 20)]
    groups = {"library.core": split, "vendored.core": "train"}
    for documents, modules in (([original, copy, *others], []), ([copy, *others], [original])):
        kept, quarantine = filtered_texts(documents, groups, modules)
        assert not [record for record in kept if record.group == "vendored.core"]
        assert {refusal.reason for refusal in quarantine.refusals} == {"leak"}
        assert {refusal.detail for refusal in quarantine.refusals} == {f"too like library.core.py ({split})"}


@pytest.mark.parametrize("split", HELD_OUT)
@pytest.mark.parametrize("in_corpus", [True, False])
def test_a_part_of_a_held_out_module_in_a_longer_one_is_not_trained_on(split, in_corpus):
    original, host = module("library.core", 1), module("m10", 10)
    host = replace(host, text=host.text + "\n\n" + original.text)
    documents, modules = ([original, host], []) if in_corpus else ([host], [original])
    kept, _ = filtered_texts(documents, {"library.core": split, "m10": "train"}, modules)
    trained = "\n".join(record.text for record in kept if record.split == "train")
    assert "function_10_0" in trained
    assert "function_1_2" not in trained
    assert in_corpus == any("function_1_2" in record.text for record in kept if record.split == split)


def test_a_text_that_holds_a_test_example_is_not_trained_on_even_where_it_is_cut():
    held_out = replace(example(1), split="test")
    documents = [module(f"m{number}", number) for number in range(10, 20)]
    text = f"{passage(77, 50)} {held_out.response} {passage(78, 50)}"  # the cut into pieces falls into the response
    documents[4] = replace(documents[4], text=text)
    kept, quarantine = filtered_texts(documents, {documents[4].group: "train"}, evaluation=[held_out])
    assert documents[4].group not in {record.group for record in kept}
    assert [refusal.reason for refusal in quarantine.refusals] == ["leak"]


def test_texts_that_differ_in_comments_alone_are_equal_whatever_counts_as_near():
    documents = [
        module("m1", 1),
        replace(module("m1", 1, header="made by another"), group="m2", source="m2.py", id="m2"),
    ]
    kept, quarantine = filtered_texts(documents, {"m1": "train", "m2": "train"}, jaccard=None)
    assert {record.group for record in kept} == {"m1"}
    assert [(refusal.reason, refusal.detail) for refusal in quarantine.refusals] == [
        ("near-duplicate", "too like m1.py (train)")
    ]


def test_equal_texts_of_a_split_are_merged():
    twin = replace(module("m3", 3), group="m3b", source="m3b.py")
    documents = [*(module(f"m{number}", number) for number in range(3)), module("m3", 3), twin]
    kept, quarantine = filtered_texts(documents, {"m3": "train", "m3b": "train"})
    assert "m3b" not in {record.group for record in kept}
    assert [refusal.reason for refusal in quarantine.refusals] == ["near-duplicate"]


def test_a_limit_of_characters_leaves_each_split_its_share():
    kept, quarantine = filtered_texts([module(f"m{number}", number) for number in range(100)], {}, max_chars=80_000)
    chars = Counter()
    for record in kept:
        chars[record.split] += len(record.text)
    assert 0.9 * 80_000 < sum(chars.values()) <= 80_000
    assert chars["test"] == pytest.approx(0.15 * 80_000, rel=0.35)
    assert {refusal.reason for refusal in quarantine.refusals} == {"over the limit"}


def test_pieces_hold_the_whole_text_and_know_their_group():
    original = module("m1", 1)
    kept, _ = filtered_texts([original], {"m1": "train"})
    assert len(kept) > 1
    assert all(record.group == "m1" and len(record.text) <= 600 for record in kept)
    assert "".join("".join(record.text.split()) for record in kept) == "".join(original.text.split())
    assert len({record.id for record in kept}) == len(kept)


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
