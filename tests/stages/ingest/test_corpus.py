"""Documents stay on disk: in memory are their names and numbers, and what is read of them is what was written."""

import numpy as np
import polars as pl
import pytest

from tasks.core.records import Document
from tasks.core.text.shingles import hash_words
from tasks.core.text.texts import joined
from tasks.io.sources import text
from tasks.stages.ingest import corpus
from tasks.stages.ingest.config import IngestConfig
from tasks.stages.ingest.corpus import Corpus
from tasks.stages.ingest.quarantine import Quarantine, Sourced
from tasks.stages.ingest.reading import corpora


def documents(number):
    texts = [f"# comment {n}\nText number {n}, ähnlich wie {n // 2}.\n" for n in range(number)]
    return [
        Sourced("code", Document(f"d{n}", body, "domain", f"g{n}", "train", f"f{n}.md", "MIT"))
        for n, body in enumerate(texts)
    ]


@pytest.fixture(params=[2, 3, 1_000])
def kept(request, tmp_path, monkeypatch):
    """Ten documents in blocks of so many."""
    monkeypatch.setattr(corpus, "DOCUMENTS", request.param)
    made = Corpus(tmp_path / "texts")
    made.add(documents(10))
    return made


def test_texts_are_on_disk_alone_and_come_back_as_they_were(kept):
    assert {document.text for document in kept.documents} == {""}
    expected = documents(10)
    assert list(kept.read([7, 2, 2, 9])) == [(n, expected[n]) for n in (2, 7, 9)]
    frame = pl.concat(kept.frames(np.arange(10)))
    assert frame["text"].to_list() == [item.record.text for item in expected]
    assert [facts.chars for facts in kept.facts] == [len(item.record.text) for item in expected]


def test_words_are_compared_without_lines_of_comments(kept):
    words = joined(kept.texts().choose(np.arange(10)))
    expected = hash_words([item.record.text.partition("\n")[2] for item in documents(10)])
    assert (words.hashes == expected.hashes).all()
    assert (words.offsets == expected.offsets).all()


def test_equal_texts_have_equal_keys(tmp_path):
    made = Corpus(tmp_path / "texts")
    made.add(
        Sourced("code", Document(f"d{n}", body, "domain", "g", "train", "f", "MIT"))
        for n, body in enumerate(["a  b", "# c\na b\n", "a c"])
    )
    assert made.keys[0] == made.keys[1] != made.keys[2]


def test_no_more_than_a_batch_of_texts_is_in_memory_while_corpora_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(corpora, "DOCUMENTS", 3)
    monkeypatch.setattr(corpus, "DOCUMENTS", 3)
    folder = tmp_path / "notes"
    folder.mkdir()
    for number in range(10):
        (folder / f"{number}.txt").write_text(f"Notice\nNote {number}, from a{number}@web.de.\n")
    config = IngestConfig.model_validate({"corpora": {"domain": [{"from": "folder", "path": str(folder)}]}})
    sizes = []
    plain = corpora.screen_documents
    monkeypatch.setattr(
        corpora, "screen_documents", lambda batch, *rest: sizes.append(len(batch)) or plain(batch, *rest)
    )
    quarantine = Quarantine()
    made, places = corpora.read_corpora(config, quarantine, text.running_text, tmp_path / "scratch")
    assert sizes == [3, 3, 3, 1]
    assert [item.record.text for _, item in made.read(range(10))] == [f"Note {n}, from a{n}@web.de." for n in range(10)]
    assert places.collect()["rule"].to_list() == ["e-mail-address"] * 10
    assert quarantine.balance({"domain: folder notes": 10})["domain: folder notes"]["read"] == 10
