"""No text that is held out, and none like it, is trained on; and every text is accounted for."""

import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from tasks.core.records import Document, Refusal
from tasks.core.text.contamination import find_overlaps, sides
from tasks.core.text.texts import Selection, Texts
from tasks.stages.ingest.corpus import Corpus
from tasks.stages.ingest.filtering.documents import cut_lone_documents, filter_and_split_documents
from tasks.stages.ingest.quarantine import Quarantine
from tests.stages.ingest.filtering.records import HELD_OUT, SPLITS, example, passage, settings


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


def test_a_document_of_one_part_keeps_its_id_and_its_group(tmp_path):
    config, quarantine, corpus = settings(splits=SPLITS), Quarantine(), Corpus(tmp_path / "uncut")
    short = Document("note", "A note of one line.", "domain", "note", "train", "note.md", "MIT")
    corpus.add(quarantine.receive("notes", [short]))
    cut = cut_lone_documents(corpus, {}, config, quarantine, tmp_path / "parts")
    assert [(document.id, document.group) for document in cut.documents] == [("note", "note")]


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
