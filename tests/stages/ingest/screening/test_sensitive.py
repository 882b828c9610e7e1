"""Secrets and personal data on their way through the stage: reported, redacted or refused, and nowhere in what is shown."""

import json
from dataclasses import replace
from itertools import product

import pytest

from tasks.core.records import Document, Example, Message, Refusal, SensitiveText, Tests, ToolCall, identify
from tasks.io import columns, tables
from tasks.stages.ingest.quarantine import Sourced, refusal_of_record
from tasks.stages.ingest.screening import sensitive
from tests.stages.ingest.test_stage import examples_of, ingest

TOKEN = "ghp_" + "aB3dE5gH7jK9mN2pQ4rS6tU8vW0xY1zA2bC3"
MAIL = "anna.schmidt@web.de"
REDACT = {"secret": "redact", "personal": "redact"}


def example(*turns, **fields):
    messages = [turn if isinstance(turn, Message) else Message(*turn) for turn in turns]
    basics = {
        "task": "chat",
        "domain": "d",
        "group": "g",
        "split": "train",
        "source": "a.jsonl: line 1",
        "license": "MIT",
    }
    return Example(identify(messages), messages, **basics | fields)


def screened(*records, actions=REDACT):
    items = [Sourced("file a", record) for record in records]
    result = sensitive.screen_examples(items, actions)
    kept = [item.record for place, item in enumerate(result.items) if place not in result.refused]
    refusals = [refusal_of_record(items[place], *reason) for place, reason in result.refused.items()]
    return kept, refusals, result.places


def test_every_part_of_a_conversation_is_redacted():
    calls = [ToolCall("send", json.dumps({"to": MAIL, "token": TOKEN}))]
    turns = [
        ("system", f"Answer {MAIL}."),
        ("user", f"My token is {TOKEN}, my address {MAIL}"),
        Message("assistant", "", calls),
        ("tool", json.dumps({"sent": MAIL})),
        ("assistant", f"Sent to {MAIL}."),
    ]
    given = example(
        *turns, rejected=f"Never to {MAIL}", tools=json.dumps([{"name": "send", "about": MAIL}]), group=f"chats: {MAIL}"
    )
    (kept,), refusals, places = screened(given)
    assert refusals == []
    text = json.dumps(tables._plain(kept))
    assert MAIL not in text
    assert TOKEN not in text
    assert kept.messages[1].content == "My token is [github-token], my address [e-mail-address]"
    assert json.loads(kept.messages[2].tool_calls[0].arguments) == {"to": "[e-mail-address]", "token": "[github-token]"}
    assert json.loads(kept.messages[3].content) == {"sent": "[e-mail-address]"}
    assert kept.response == "Sent to [e-mail-address]."
    assert kept.id == identify(kept.messages, tools=kept.tools, rejected=kept.rejected)
    assert [place.part for place in places] == [
        "system", "user", "user", "call of send", "call of send", "tool", "assistant", "rejected", "tools",
    ]  # fmt: skip
    assert {place.action for place in places} == {"redacted"}
    (again,), _, _ = screened(given)
    assert again == kept


def test_what_holds_nothing_is_the_same_object():
    given = example(("user", "What is 1 + 1?"), ("assistant", "2"))
    (kept,), _, places = screened(given)
    assert kept is given
    assert places == []


def test_weights_and_expected_answers_follow():
    answer = f"It is {MAIL}."
    tests = Tests("check", '{"kind": "exact"}', json.dumps(answer))
    given = example(
        ("user", "Which?"), ("assistant", answer), tests=tests, weights=[1.0] * 6 + [2.0] * len(MAIL) + [3.0]
    )
    (kept,), _, _ = screened(given)
    assert json.loads(kept.tests.entry) == kept.response == "It is [e-mail-address]."
    assert kept.weights == [1.0] * 6 + [2.0] * len("[e-mail-address]") + [3.0]


@pytest.mark.parametrize("place", ["response", "tests", "prompt"])
def test_a_program_that_passed_its_tests_with_it_is_refused(place):
    holds = {name: f"m = '{MAIL}'" if name == place else "m = 1" for name in ("response", "tests", "prompt")}
    tests = Tests("doctest", holds["tests"], "f", "import re")
    given = example(("user", holds["prompt"]), ("assistant", holds["response"]), tests=tests)
    kept, refusals, _ = screened(given)
    if place == "prompt":  # nothing runs it
        assert kept[0].prompt[0].content == "m = '[e-mail-address]'"
    else:
        assert [refusal.reason for refusal in refusals] == ["cannot be redacted"]
    kept, _, places = screened(given, actions={"secret": "redact", "personal": "report"})
    assert kept == [given]
    assert len(places) == 1


def test_a_pair_whose_sides_differ_by_what_is_redacted_alone_is_refused():
    pair = example(("user", "Whom do I ask?"), ("assistant", f"Ask {MAIL}."), rejected="Ask eva.schmidt@web.de.")
    kept, (refusal,), places = screened(pair)
    assert (kept, refusal.reason) == ([], "equal sides")
    assert {place.action for place in places} == {"refused"}
    assert screened(pair, actions={"secret": "redact", "personal": "report"})[0] == [pair]


def test_a_program_without_tests_still_parses():
    code = f'def client():\n    # ask {MAIL}\n    return Client(token="{TOKEN}", password = "tr0ub4dor&3")\n'
    (kept,), _, _ = screened(example(("user", "Write it."), ("assistant", code)))
    compile(kept.response, "program", "exec")
    assert 'token="[github-token]", password = "[password]"' in kept.response


def test_documents_are_redacted_under_a_new_id():
    given = [
        Document(str(n), f"Ask {mail}.", "domain", f"notes {n}", "train", f"n{n}.md", "MIT")
        for n, mail in enumerate((MAIL, "us"))
    ]
    result = sensitive.screen_documents([Sourced("folder notes", document) for document in given], REDACT)
    kept, places = result.items, result.places
    assert [item.record.text for item in kept] == ["Ask [e-mail-address].", "Ask us."]
    assert kept[0].record.id != "0"
    assert kept[1].record is given[1]
    assert places == [
        SensitiveText("folder notes", "n0.md", "text", "personal", "e-mail-address", "an… (19 characters)", "redacted")
    ]


def test_refused_ones_are_named_by_rule_and_mask():
    given = [example(("user", f"{word}?"), ("assistant", f"{word}.")) for word in (TOKEN, MAIL, "none")]
    kept, refusals, places = screened(*given, actions={"secret": "refuse", "personal": "refuse"})
    assert [one.response for one in kept] == ["none."]
    assert [(refusal.reason, refusal.detail) for refusal in refusals] == [
        ("secret", "github-token in user: ghp_… (40 characters)"),
        ("personal data", "e-mail-address in user: an… (19 characters)"),
    ]
    assert [place.action for place in places] == ["refused"] * 4


def shown(refusals, personal="report"):
    hidden = sensitive.hide(columns.frame(refusals, Refusal), {"secret": "report", "personal": personal})
    return tables.records(hidden, Refusal)


def test_a_cut_record_loses_the_word_at_its_end():
    start = "x " * 90
    cut = Refusal("a", "line 1", "too long", "", (start + TOKEN)[:200])
    whole = Refusal("a", "line 2", "too long", f"found {TOKEN}", f"use {TOKEN} and {MAIL}")
    hidden = shown([cut, whole, replace(whole, record="plain", detail="")])
    assert hidden[0].record == f"{start}…"
    assert (hidden[1].record, hidden[1].detail) == (f"use [github-token] and {MAIL}", "found [github-token]")
    assert hidden[2].record == "plain"
    token = "hf_" + "aB3dE5gH7jK9mN2pQ4rS6tU8vW0xY1zA2b"  # its hint is all of it, which a cut one lacks
    (short,) = shown([replace(cut, record=("x " * 86 + token)[:200])])
    assert short.record == f"{'x ' * 86}…"
    (lines, none) = shown([replace(cut, record=f"x{chr(10)}" * 90 + "y" * 20), replace(cut, record="é" * 200)])
    assert (lines.record, none.record) == (f"x{chr(10)}" * 90 + "…", "…")
    (strict,) = shown([whole], personal="redact")
    assert strict.record == "use [github-token] and [e-mail-address]"


@pytest.fixture
def rows(tmp_path):
    """Thirty rows: every fifth answer has an address, the tenth a token; a broken line holds a token too."""
    file = tmp_path / "raw/chats.jsonl"
    file.parent.mkdir()
    lines = []
    for number in range(30):
        answer = (
            f"See number {number}"
            + (f" or {MAIL}" if number % 5 == 0 else "")
            + (f" with {TOKEN}" if number == 10 else "")
        )
        lines.append(json.dumps({"prompt": f"Where is number {number}?", "completion": answer}))
    file.write_text("\n".join([*lines, f'{{"prompt": "my {TOKEN}', json.dumps({"a": TOKEN})]))
    return file


@pytest.mark.parametrize(("secrets", "personal"), list(product(("report", "redact", "refuse"), repeat=2)))
def test_the_stage_by_each_pair_of_actions(tmp_path, rows, secrets, personal):
    run, report = ingest(tmp_path, [{"from": "file", "path": rows}], secrets=secrets, personal=personal)
    (balance,) = report["sources"].values()
    refused = {"secret": 1} if secrets == "refuse" else {}
    if personal == "refuse":
        refused |= {"personal data": 6 - len(refused)}
    assert balance["refused"] == {"not JSON": 1, "unknown shape": 1} | refused
    assert balance["kept"] == 30 - sum(refused.values())
    (counts,) = report["sensitive"].values()
    assert {rule: (row["records"], row["places"]) for rule, row in counts.items()} == {
        "e-mail-address": (6, 6), "github-token": (1, 1),
    }  # fmt: skip
    kept = "".join(one.response for split in examples_of(tmp_path).values() for one in split)
    assert (MAIL in kept) == (personal == "report")
    assert (TOKEN in kept) == (secrets == "report" and personal != "refuse")
    shown = "\n".join([*run.said, json.dumps(report), str(tables.read(tmp_path / "out/ingested/quarantine.parquet", Refusal)),
                       str(tables.read(tmp_path / "out/ingested/sensitive.parquet", SensitiveText))])  # fmt: skip
    assert TOKEN not in shown
    assert TOKEN[:12] not in shown
    assert (MAIL in shown) == (
        secrets == "refuse" and personal == "report"
    )  # beside the token that its record was refused for
    assert any(line.startswith("secrets: 1 github-token ") for line in run.said)


def test_sourced_items_keep_their_source():
    item = Sourced("file a", example(("user", MAIL), ("assistant", "Yes")))
    assert sensitive.screen_examples([item], REDACT).items[0].source == "file a"
