"""Decisions on the page are lines of the file; nothing that somebody else decided is overwritten unseen."""

import html
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from flows.project import reviewed_data
from flows.review_page import edits
from flows.review_page.entries import Entry
from tasks.core.records import Decision, Document, Example, Message, Refusal, Result, Tests, ToolCall
from tasks.io import review_decisions, sandbox, tables, verifiers
from tests.flows.review_page.conftest import DECISIONS, ITEMS, PASSES, RECORDS, decide, decided
from tests.stages.report.material import HOSTILE, trained


def test_a_decision_is_a_line_with_author_reason_and_time(page):
    answer = decide(page, "a2", "reject", reason="worse – naïve")
    assert answer.status_code == 200
    assert "reject by Ada" in answer.text
    (line,) = decided()
    assert (line["id"], line["decision"], line["author"], line["reason"]) == ("a2", "reject", "Ada", "worse – naïve")
    assert line["time"].endswith("+00:00")


def test_refused_proposals_are_rescued_and_examples_left_out(page):
    assert decide(page, "x", "accept", view="refused").status_code == 200
    assert decide(page, "b", "reject", view="examples").status_code == 200
    read = review_decisions.read(DECISIONS)
    assert {name: decision.decision for name, decision in read.items()} == {"x": "accept", "b": "reject"}


def test_undo_brings_back_what_counted_before(page):
    decide(page, "a2", "accept")
    decide(page, "a2", "reject", seen=1)
    assert "accept by Ada" in decide(page, "a2", "withdraw", seen=2).text
    assert "Undo" not in decide(page, "a2", "withdraw", seen=3).text
    assert review_decisions.read(DECISIONS) == {}
    assert len(decided()) == 4


def test_a_stale_page_is_told_and_writes_nothing(page):
    review_decisions.append(DECISIONS, Decision("a2", "reject", "Grace", "no"))
    answer = decide(page, "a2", "accept")
    assert answer.status_code == 412
    assert "Grace decided on it meanwhile (reject). Nothing was written" in answer.text
    assert 'name="seen" value="1"' in answer.text
    assert len(decided()) == 1


def test_a_decision_that_was_taken_out_of_the_file_is_told_and_nothing_is_written(page):
    decide(page, "a2", "reject")
    DECISIONS.write_text("# what people decided\n")
    answer = decide(page, "a2", "withdraw", seen=1)
    assert answer.status_code == 412
    assert "What was decided on it is no longer in the file. Nothing was written" in answer.text
    assert 'name="seen" value="0"' in answer.text
    assert decided() == []


def test_of_two_people_at_once_one_is_reported(page):
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda author: decide(page, "a2", "accept", author=author), ("Ada", "Grace")))
    assert sorted(answer.status_code for answer in answers) == [200, 412]
    assert len(decided()) == 1


@pytest.mark.parametrize(
    ("text", "taken"), [(f"{PASSES}# Ω", True), ("def f():\n    return 2\n", False), ("def f(:", False)]
)
def test_an_edit_of_a_program_is_taken_if_it_passes_its_tests(page, programs, text, taken):
    answer = decide(page, "a2", "edit", text=text.replace("\n", "\r\n"))
    assert answer.status_code == (200 if taken else 422)
    assert [line["text"] for line in decided()] == [text] * taken
    assert ("fails its tests" in answer.text) is not taken


def test_an_edit_that_cannot_be_tested_is_not_taken(page, monkeypatch):
    monkeypatch.setattr(edits.sandbox, "probe", lambda: sandbox.Level(1, "rlimits", "no user namespaces"))
    answer = decide(page, "a2", "edit", text=PASSES)
    assert answer.status_code == 422
    assert "runs no programs: no user namespaces" in answer.text
    assert decided() == []


def test_an_edit_that_a_verifier_would_evaluate_without_a_sandbox_is_not_taken(page, monkeypatch):
    reason = "no sandbox on this machine, and the verifier of countdown evaluates answers (`ratchet doctor` says what is needed)"

    def unisolated(tests, text):
        raise verifiers.Unisolated(reason)

    monkeypatch.setattr(edits.verifiers, "acceptance", unisolated)
    answered = replace(trained("a2", "1 + 2"), tests=Tests("answer", "countdown", "{}"))
    monkeypatch.setattr(Entry, "answered", answered)
    answer = decide(page, "a2", "edit", text="2 + 1")
    assert answer.status_code == 422
    assert f"cannot be tested: {html.escape(reason)}." in answer.text
    assert decided() == []


@pytest.mark.parametrize(
    ("identity", "text", "sentence"),
    [
        ("a2", " \r\n", "The text is empty"),
        ("e", "return 1", "Nothing was edited"),
        ("e", "return 3", "it has no tests that tell a right one from a wrong one"),
    ],
)
def test_an_edit_that_the_next_run_would_refuse_is_not_taken(page, identity, text, sentence):
    answer = decide(page, identity, "edit", text=text)
    assert (answer.status_code, decided()) == (422, [])
    assert sentence in answer.text


def test_a_call_of_a_tool_is_shown_and_no_text_takes_its_place(page):
    table = Path("data/rounds/r0/examples.parquet")
    calls = [ToolCall("weather", '{"city": "Bern"}')]
    first, *others = tables.read(table, Example)
    tables.write(table, [replace(first, messages=[*first.prompt, Message("assistant", "", calls)]), *others], Example)
    assert 'weather({"city": "Bern"})' in html.unescape(page.get("?view=examples").text)
    assert "Its answer calls a tool" in page.get("edit?view=examples&id=a").text
    answer = decide(page, "a", "edit", view="examples", text="I look.")
    assert (answer.status_code, decided()) == (422, [])
    assert "Its answer calls a tool" in answer.text


def test_an_edit_of_a_refused_addition_waits_for_the_tests_of_the_next_run(page):
    assert decide(page, "x", "edit", view="refused", text="return 3").status_code == 200
    assert decided()[0]["text"] == "return 3"


def bulk(page, decision, query="", **fields):
    shown = page.get(f"bulk?{query}&decision={decision}").text
    seen = shown.partition('name="seen" value="')[2].partition('"')[0]
    return shown, {"decision": decision, "query": query, "seen": seen, "author": "Ada", **fields}


def test_many_are_decided_after_a_count(page):
    decide(page, "a2", "reject")
    shown, form = bulk(page, "accept", reason="looked at a sample")
    assert "Accept 1 entry" in shown
    assert "1 decisions" in page.post("bulk", data=form).text
    assert [(line["id"], line["decision"]) for line in decided()] == [("a2", "reject"), ("e", "accept")]


@pytest.mark.parametrize("state", ["decided", "accept"])
def test_entries_that_the_filter_leaves_out_are_not_decided_with_many(page, state):
    decide(page, "a2", "accept")
    refused = page.get(f"bulk?state={state}&decision=reject")
    assert refused.status_code == 422
    assert "Only open entries can be decided on together." in refused.text
    form = {"decision": "reject", "query": f"state={state}", "seen": "", "author": "Ada"}
    assert page.post("bulk", data=form).status_code == 422
    assert len(decided()) == 1
    assert ("Reject…" in page.get("").text, "Reject…" in page.get(f"?state={state}").text) == (True, False)
    assert "Withdraw…" in page.get(f"?state={state}").text


def test_many_are_withdrawn_at_once(page):
    page.post("bulk", data=bulk(page, "accept")[1])
    shown, form = bulk(page, "withdraw")
    assert "Withdraw 2 entries" in shown
    page.post("bulk", data=form)
    assert review_decisions.read(DECISIONS) == {}


def test_many_are_counted_again_where_somebody_decided_meanwhile(page):
    _, form = bulk(page, "accept")
    decide(page, "a2", "reject")
    answer = page.post("bulk", data=form)
    assert answer.status_code == 412
    assert "1 match now. Nothing was written" in answer.text
    assert len(decided()) == 1


def test_a_refused_record_is_rescued_and_an_item_left_out_each_in_its_own_file(page):
    assert decide(page, "few", "accept", view="records").status_code == 200
    assert decide(page, "t1", "reject", view="items", reason="two answers are right").status_code == 200
    assert [(line["id"], line["decision"]) for line in decided(RECORDS)] == [("few", "accept")]
    assert [(line["id"], line["decision"], line["reason"]) for line in decided(ITEMS)] == [
        ("t1", "reject", "two answers are right")
    ]
    assert decided() == []


@pytest.mark.parametrize(
    ("view", "identity", "decision", "sentence"),
    [
        ("records", "few", "reject", "accept and withdraw are."),
        ("records", "few", "edit", "accept and withdraw are."),
        ("items", "t1", "accept", "reject and withdraw are."),
        ("records", "leaked", "accept", "the entry is gone"),
    ],
)
def test_what_no_stage_would_honour_is_not_written(page, view, identity, decision, sentence):
    answer = decide(page, identity, decision, view=view, text="x")
    assert answer.status_code in (410, 422)
    assert sentence in answer.text
    assert decided(RECORDS) == decided(ITEMS) == []


def test_what_a_run_has_honoured_can_still_be_undone(page):
    """By then the record is no longer among the refused ones, nor the item among the results."""
    decide(page, "few", "accept", view="records")
    decide(page, "t1", "reject", view="items")
    tables.write(Path("data/ingested/quarantine.parquet"), [], Refusal)
    tables.write(Path("data/ingested/valid.parquet"), [trained("few", "Too few words.")], Example)
    for file in Path("data/results").rglob("*.parquet"):
        tables.write(file, [row for row in tables.read(file, Result) if row.item != "t1"], Result)
    assert "Too few words." in page.get("?view=records&state=decided").text
    assert ">left out of all figures</span>" in page.get("?view=items&state=decided").text
    assert decide(page, "few", "withdraw", view="records", seen=1).status_code == 200
    assert decide(page, "t1", "withdraw", view="items", seen=1).status_code == 200
    assert review_decisions.read(RECORDS) == review_decisions.read(ITEMS) == {}


@pytest.mark.parametrize("pieces", [1, 2])
def test_the_rescue_of_a_text_can_be_undone_once_it_is_kept(page, pieces):
    kept = [Document(f"piece {n}", f"Too few words, {n}.", "general", "g", "train", "n", "MIT") for n in range(pieces)]
    identity = reviewed_data.id_uncut(kept[0]) if pieces == 1 else "all of it"
    refused = Refusal("notes", "notes", "quality: min_words", "it has 3", "Too few words", identity)
    tables.write(Path("data/ingested/quarantine.parquet"), [refused], Refusal)
    assert decide(page, identity, "accept", view="records").status_code == 200
    tables.write(Path("data/ingested/quarantine.parquet"), [], Refusal)
    tables.write(Path("data/ingested/train_documents.parquet"), kept, Document)
    shown = page.get("?view=records&state=decided").text
    assert ("Too few words, 0." if pieces == 1 else "kept in pieces") in shown
    assert decide(page, identity, "withdraw", view="records", seen=1).status_code == 200
    tables.write(Path("data/ingested/quarantine.parquet"), [], Refusal)
    assert "kept in pieces" not in page.get("?view=records&state=all").text


def test_an_edit_goes_on_from_the_edit_that_counts(page):
    review_decisions.append(DECISIONS, Decision("e", "edit", "Ada", "", "return 5  # by hand"))
    field = page.get("edit?view=proposed&id=e", headers={"HX-Request": "true"}).text
    assert "\nreturn 5  # by hand</textarea>" in field
    decide(page, "e", "withdraw", seen=1)
    assert "by hand" not in page.get("edit?view=proposed&id=e", headers={"HX-Request": "true"}).text


def test_an_edit_that_changes_nothing_of_the_edit_before_is_not_taken(page):
    """Its undoing would leave that edit."""
    assert decide(page, "a2", "edit", text=f"{PASSES}# by hand").status_code == 200
    again = decide(page, "a2", "edit", text=f"{PASSES}# by hand", seen=1)
    back = decide(page, "a2", "edit", text=f"{PASSES}# {HOSTILE}", seen=1)
    assert (again.status_code, back.status_code, len(decided())) == (422, 422, 1)
    assert "Nothing was edited." in again.text
    assert "Undo the edit instead." in back.text


def test_many_records_are_rescued_after_a_count(page):
    shown, form = bulk(page, "accept", "view=records")
    assert "Rescue 2 entries" in shown
    page.post("bulk", data=form)
    assert {line["id"] for line in decided(RECORDS)} == {"long", "few"}
