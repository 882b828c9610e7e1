"""Licences and quality in the stage: off by default, and named in the quarantine where they refuse."""

import json

import pytest

from tasks.core.licenses import expressions
from tasks.core.records import Refusal
from tasks.io import tables
from tests.stages.ingest.test_stage import ingest


@pytest.mark.parametrize(
    ("license", "expected"),
    [
        ("MIT", True),
        ("mit", True),
        ("MIT OR GPL-3.0", True),
        ("GPL-3.0 OR (MIT AND Apache-2.0)", True),
        ("MIT AND GPL-3.0", False),
        ("(MIT OR Apache-2.0) AND GPL-3.0", False),
        ("GPL-3.0", False),
        ("unknown", False),
        ("", False),
    ],
)
def test_licences_by_their_expression(license, expected):
    assert expressions.is_met(license, frozenset(("MIT", "Apache-2.0"))) == expected


@pytest.fixture
def rows(tmp_path):
    file = tmp_path / "raw/rows.jsonl"
    file.parent.mkdir()
    answers = [f"The answer to {number} is that word." for number in range(20)] + [
        "No " * 12,
        "Als die Züge kamen, war niemand mehr auf dem Bahnsteig, den sie hätten grüßen können.",
    ]
    file.write_text(
        "\n".join(json.dumps({"prompt": f"{n}?", "completion": answer}) for n, answer in enumerate(answers))
    )
    return file


def refused(tmp_path, **changes):
    _, report = ingest(tmp_path, [{"from": "file", "path": "raw/rows.jsonl", "license": "CC0-1.0"}], **changes)
    (balance,) = report["sources"].values()
    assert balance["read"] == 22
    return balance["refused"], tables.read(tmp_path / "out/ingested/quarantine.parquet", Refusal)


def test_nothing_is_refused_by_default(tmp_path, rows):
    assert refused(tmp_path) == ({}, [])


def test_answers_that_break_a_rule_are_in_the_quarantine(tmp_path, rows):
    quality = {"examples": {"duplicate_ngrams": {3: 0.2}, "languages": ["en"]}}
    counts, quarantine = refused(tmp_path, quality=quality)
    assert counts == {"language": 1, "quality: duplicate_ngrams": 1}
    details = {refusal.reason: (refusal.where.rpartition(" ")[2], refusal.detail) for refusal in quarantine}
    assert details["language"] == ("22", "de; allowed are en")
    assert details["quality: duplicate_ngrams"] == (
        "21",
        "0.917 of 3 words in a row that repeat, at most 0.2 are allowed",
    )


def test_a_licence_that_is_not_named_is_refused(tmp_path, rows):
    with pytest.raises(ValueError, match=r"ingest kept no example.*22 license.*'CC0-1.0' is not in ingest.licenses"):
        refused(tmp_path, licenses=["MIT"])
    assert refused(tmp_path, licenses=["MIT", "CC0-1.0"]) == ({}, [])


def test_a_corpus_has_limits_of_its_own(tmp_path, rows):
    for domain in ("code", "prose"):
        (tmp_path / "raw" / domain).mkdir()
        for number in range(12):
            (tmp_path / "raw" / domain / f"{number}.md").write_text(
                f"{domain} {number}: " + " ".join(f"{domain}{number}x{n}" for n in range(number * 3))
            )
    corpora = {
        name: [{"from": "folder", "path": f"raw/{folder}"}]
        for name, folder in (("domain", "code"), ("general", "prose"))
    }
    _, report = ingest(
        tmp_path, [{"from": "file", "path": "raw/rows.jsonl"}], corpora=corpora, quality={"general": {"min_words": 10}}
    )
    assert report["sources"]["domain: folder raw/code"]["refused"] == {}
    assert report["sources"]["general: folder raw/prose"]["refused"] == {"quality: min_words": 3}
