"""A refused record that a person rescues is kept, unless models are evaluated by it; the same decisions give the same bytes."""

import json
import random
from dataclasses import asdict

import pytest

from flows.project import reviewed_data
from tasks.core.records import Decision, Document, Refusal
from tasks.io import tables
from tests.stages.ingest.running import contents, examples_of, ingest

DRAW = random.Random(0)
WORDS = ["".join(DRAW.choices("abcdefghij", k=6)) for _ in range(2000)]
RULES = {
    "max_response_chars": 600,
    "quality": {"examples": {"min_words": 12}},
    "personal": "refuse",
    "licenses": ["MIT"],
}


def text(length):
    return " ".join(DRAW.choices(WORDS, k=length))


def row(prompt, completion, topic=""):
    return {"prompt": prompt, "completion": completion, "topic": topic or prompt}


@pytest.fixture
def sources(tmp_path):
    """Rows that each rule refuses one of, and an evaluation set with one of them."""
    (tmp_path / "raw").mkdir()
    good = [row(f"{text(12)}?", text(40)) for _ in range(20)]
    words = good[0]["completion"].split()
    bad = {
        "too long": row(f"{text(12)}?", text(120)),
        "personal data": row(f"{text(12)}?", f"{text(40)} ada.lovelace@web.de"),
        "near-duplicate": row(f"{text(12)}?", " ".join([*words[:39], "other"]), good[0]["topic"]),
        "few words": row(f"{text(12)}?", text(3)),
        "leak": row(f"{text(12)}?", text(40)),
        "duplicate": good[1],
    }
    (tmp_path / "raw/rows.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in [*good, *bad.values()]))
    (tmp_path / "raw/set.jsonl").write_text(json.dumps(row(f"{text(12)}?", bad["leak"]["completion"])))
    return [{"from": "file", "path": tmp_path / "raw/rows.jsonl", "license": "MIT", "group": "topic"}]


@pytest.fixture
def run(tmp_path, sources):
    """Run the stage and return the run, the report, and the first refusal of each reason."""

    def of(name, **changes):
        benchmarks = [{"from": "file", "path": tmp_path / "raw/set.jsonl"}]
        done, report = ingest(tmp_path, sources, name, **RULES | {"benchmarks": benchmarks} | changes)
        refused = tables.read(tmp_path / name / "ingested/quarantine.parquet", Refusal)
        return done, report, {one.reason: one for one in reversed(refused)}

    return of


def decide(tmp_path, *decisions):
    with (tmp_path / "review_records.jsonl").open("a") as file:
        file.writelines(json.dumps(asdict(decision)) + "\n" for decision in decisions)


def rescue(identity, decision="accept"):
    return Decision(identity, decision, "Ada", "looked at it", time="2026-01-01")


def kept_ids(tmp_path, name):
    return {one.id for rows in examples_of(tmp_path, name).values() for one in rows}


def test_what_a_rule_refuses_is_kept_if_a_person_says_so_and_a_leak_is_not(tmp_path, run):
    _, before, refused = run("before")
    assert set(refused) == {"too long", "personal data", "near-duplicate", "quality: min_words", "leak", "duplicate"}
    assert "rescued" not in before
    decide(tmp_path, *(rescue(one.id) for one in refused.values()), rescue("0123456789abcdef"))
    done, report, still = run("after")
    assert set(still) == {"leak", "duplicate"}
    overruled = {one.id for reason, one in refused.items() if reason not in ("leak", "duplicate")}
    assert overruled <= kept_ids(tmp_path, "after")
    leak = refused["leak"].id
    assert leak not in kept_ids(tmp_path, "after")
    assert report["rescued"] == {
        "kept": 5,  # the equal one is kept by its copy
        "refused": {leak: {"reason": "leak", "author": "Ada"}},
        "about nothing here": ["0123456789abcdef"],
    }
    said = "\n".join(done.said)
    assert f"{leak} stays refused, though Ada rescued it: it overlaps data on which models are evaluated" in said
    assert "1 rescues are about records that are not here: 0123456789abcdef" in said


def test_the_same_decisions_give_the_same_bytes_and_none_those_of_before(tmp_path, run):
    *_, refused = run("before")
    identity = refused["personal data"].id
    decide(tmp_path, rescue(identity))
    run("once")
    run("again")
    assert contents(tmp_path / "once") == contents(tmp_path / "again")
    decide(tmp_path, rescue(identity, "withdraw"))
    run("withdrawn")
    assert contents(tmp_path / "withdrawn") == contents(tmp_path / "before")


def test_what_exceeds_the_number_of_examples_is_kept_beyond_it(tmp_path, run):
    *_, refused = run("before", max_examples=10)
    decide(tmp_path, rescue(refused["over the limit"].id))
    _, report, _ = run("after", max_examples=10)
    assert refused["over the limit"].id in kept_ids(tmp_path, "after")
    assert report["rescued"]["kept"] == 1


def test_a_part_that_refused_nothing_that_is_rescued_is_not_read_again(tmp_path, run, monkeypatch):
    from tasks.stages.ingest.shards import workers

    *_, refused = run("before")
    written = []
    write = workers.write_part
    monkeypatch.setattr(workers, "write_part", lambda part, *rest: written.append(part.rescued) or write(part, *rest))
    decide(tmp_path, rescue(refused["too long"].id))  # by a rule that comes after the reading
    run("after")
    assert [ids for ids in written if ids != {refused["too long"].id}] == []  # the evaluation set, which is made anew
    identity = refused["quality: min_words"].id
    decide(tmp_path, rescue(identity))
    run("again")
    assert {identity} in written


def test_a_text_of_a_corpus_is_rescued_too(tmp_path):
    folder = tmp_path / "raw/texts"
    folder.mkdir(parents=True)
    passages = [text(80) for _ in range(12)]
    passages.append(" ".join([*passages[0].split()[:79], "other"]))
    passages.append("Few words.")
    for number, passage in enumerate(passages):
        (folder / f"{number:02}.txt").write_text(passage)
    changes = {
        "corpora": {"domain": [{"from": "folder", "path": folder}]},
        "quality": {"domain": {"min_words": 12}},
    }
    ingest(tmp_path, [], "before", **changes)
    refused = {
        one.reason: one for one in tables.read(tmp_path / "before/ingested/quarantine.parquet", Refusal) if one.id
    }
    decide(tmp_path, *(rescue(one.id) for one in refused.values()))
    _, report = ingest(tmp_path, [], "after", **changes)
    texts = [
        one
        for split in ("train", "valid", "test")
        for one in tables.read(tmp_path / f"after/ingested/{split}_documents.parquet", Document)
    ]
    (few,) = (one for one in texts if one.text == "Few words.")
    assert reviewed_data.id_uncut(few) == refused["quality: min_words"].id, "by which the page finds it"
    assert report["rescued"]["about nothing here"] == []


def test_a_decision_that_means_nothing_here_is_named(tmp_path, run):
    decide(tmp_path, rescue("a", "reject"))
    with pytest.raises(ValueError, match=r"review_records.jsonl: 'reject' on a means nothing here; `accept` and"):
        run("out")
