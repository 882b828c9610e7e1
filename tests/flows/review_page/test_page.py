"""The page lists what waits, in pages that do not shift, and shows hostile text as text."""

import hashlib
import json
import re
import shutil
from importlib.resources import files
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from flows.execution import ports
from flows.review_page import app, rendering, server
from flows.review_page.differences import compare
from flows.review_page.entries import Turn
from flows.review_page.filters import PAGE
from tasks import configuration
from tests.flows.review_page.conftest import TOKEN, decide, many

ENTRIES = re.compile(r'data-id="([^"]+)"')


def shown(page, query=""):
    """The ids of a page's entries."""
    answer = page.get(f"?{query}")
    assert answer.status_code == 200, answer.text
    return ENTRIES.findall(answer.text)


def test_each_view_has_its_entries(page):
    assert shown(page) == ["a2", "e"]
    assert shown(page, "view=refused") == ["x"]
    assert shown(page, "view=examples") == ["a", "b", "c", "d"]
    assert shown(page, "view=records") == ["long", "few"]  # no leak, and nothing that is no record
    assert shown(page, "view=items") == ["t0", "t1"]


def test_without_a_turn_there_are_records_and_items_alone(turn):
    client = TestClient(app.application(Turn(None, configuration.load()), "Ada", TOKEN), f"http://127.0.0.1/{TOKEN}/")
    assert shown(client) == ["long", "few"]
    assert "Training examples" not in client.get("").text
    assert client.get("neighbours?view=proposed&id=a2").status_code == 410


def test_an_item_is_shown_with_what_models_made_of_it(page):
    text = page.get("?view=items&flag=r0 failed").text
    assert "r0: pass@1 syntax: " in text
    assert shown(page, "view=items&flag=r0 failed") == ["t1"]
    assert shown(page, "view=records&flag=quality: min_words") == ["few"]


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("set=hard", ["a2"]),
        ("flag=sparse", ["e"]),
        ("source=TOOLZ 1: a", ["a2"]),
        ("quality_to=1&same_from=", ["e"]),
        ("same_from=100", ["e"]),
        ("order=quality", ["e", "a2"]),
        ("state=decided", []),
        ("state=all&after=no-longer-there", ["a2", "e"]),
    ],
)
def test_filters_and_orders(page, query, ids):
    assert shown(page, query) == ids


def test_what_was_decided_leaves_the_list_of_open_ones(page):
    decide(page, "a2", "accept")
    assert shown(page) == ["e"]
    assert shown(page, "state=accept") == ["a2"]


def test_the_keys_of_the_cards_are_told_with_decided_entries_too(page):
    keys = "<kbd>a</kbd> accept · <kbd>r</kbd> reject · <kbd>f</kbd> flag · <kbd>e</kbd> edit"
    assert all(keys in page.get(f"?view=examples&state={state}").text for state in ("open", "decided", "accept"))


def test_pages_do_not_shift_by_what_is_decided_on_them(page):
    many(3 * PAGE).write(Path("data/rounds"))
    first = shown(page)
    assert len(first) == PAGE
    for identity in first:
        decide(page, identity, "accept")
    second = shown(page, f"after={first[-1]}")
    assert second[0] == f"e{PAGE:05} new"
    third = shown(page, f"after={second[-1]}")
    assert len(third) == PAGE
    assert shown(page, f"before={third[0]}") == second


def test_of_ten_thousand_proposals_each_page_tells_the_number_and_the_last_is_reached(page):
    many(10_000).write(Path("data/rounds"))
    assert f"<h2>1–{PAGE} of 10,000</h2>" in page.get("").text
    last = page.get(f"?after=e{10_000 - PAGE - 1:05} new").text
    assert ENTRIES.findall(last) == [f"e{number:05} new" for number in range(10_000 - PAGE, 10_000)]
    assert f"<h2>{10_000 - PAGE + 1:,}–10,000 of 10,000</h2>" in last
    assert "Next page" not in last
    assert "Previous page" in last


def test_before_and_after_signals_reasons_and_tests_are_shown(page):
    text = page.get("?set=hard").text
    assert "Write <del>a</del>." in text
    assert "Write <ins>a2</ins>." in text
    assert "hard to learn: 4 (over 3; the mean is 2.5) before the training" in text
    assert "loss before 4, loss after 3, likeness to its neighbours 0.9, quality 6" in text
    assert "passed its doctest tests" in text
    assert "refused: a copy" in page.get("?view=refused").text


def test_nothing_of_the_data_takes_effect(page):
    for text in (
        page.get("").text,
        page.get("neighbours?view=proposed&id=a2").text,
        page.get("edit?view=proposed&id=a2").text,
        page.get("?view=records").text,
        page.get("?view=items").text,
    ):
        assert "<script>alert" not in text
        assert "<img src" not in text
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "\x1b" not in page.get("").text
    assert "\u202e" not in page.get("").text
    assert not re.search(r"\son\w+=", re.sub(r"<pre.*?</pre>", "", page.get("").text, flags=re.DOTALL))


def test_neighbours_are_those_of_the_diagnosis(page):
    text = page.get("neighbours?view=examples&id=a").text
    assert re.findall(r"toolz 1: (\w)", text) == ["b", "c"]


def test_words_that_differ_are_marked_and_no_others():
    old, new = compare("return the old value", "return a new value")
    assert [piece.text for piece in old if piece.is_changed] == ["the", "old"]
    assert [piece.text for piece in new if piece.is_changed] == ["a", "new"]
    assert "".join(piece.text for piece in new) == "return a new value"


@pytest.mark.parametrize("length", [9_500, 10_000, 25_000])
def test_texts_that_differ_beyond_what_is_shown_do_not_look_equal(length):
    old, new = rendering._compared("a " * (length // 2) + "old end", "a " * (length // 2) + "new end")
    assert [piece.text for piece in old if piece.is_changed] == ["old"]
    assert [piece.text for piece in new if piece.is_changed] == ["new"]
    assert old[0].text.startswith(f"{length - 1_000:,} characters, alike in both")
    same, _ = rendering._compared("a " * length, "a " * length)
    assert same[0].text.startswith("a a")


def test_the_policy_lets_nothing_else_run(page):
    policy = page.get("").headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self';")
    assert "unsafe" not in policy
    assert page.get("static/page.js").status_code == 200


@pytest.mark.parametrize("address", ["/", "/another-token/", f"/{TOKEN}x/", "/é/"])
def test_without_the_token_nothing_is_shown(page, address):
    answer = page.get(f"http://127.0.0.1:8765{address}")
    assert answer.status_code == 403
    assert "lacks the token" in answer.text


def test_another_host_is_refused(page):
    answer = page.get("", headers={"Host": "evil.example:8765"})
    assert answer.status_code == 403
    assert "only the hosts 127.0.0.1 and localhost" in answer.text


def test_the_address_without_its_last_slash_leads_to_the_page(page):
    assert page.get(f"http://localhost:8765/{TOKEN}").status_code == 200


@pytest.mark.parametrize(
    ("fields", "status", "sentence"),
    [
        ({"author": "  "}, 422, "author:"),
        ({"view": "other"}, 422, "view:"),
        ({"id": "gone"}, 410, "Load the page again"),
        ({"decision": "maybe"}, 422, "decision:"),
        ({"text": "x" * 3_000_000}, 413, "larger than 2,097,152 bytes"),
    ],
)
def test_a_bad_request_is_one_sentence(page, fields, status, sentence):
    form = {"view": "proposed", "id": "a2", "decision": "accept", "seen": "0", "author": "Ada"} | fields
    answer = page.post("decide", data=form, headers={"HX-Request": "true"})
    assert answer.status_code == status
    assert sentence in answer.text


def test_a_line_that_is_no_decision_is_named_on_the_page(page):
    with Path("data/review_decisions.jsonl").open("a") as file:
        file.write("{\n")
    assert "line 2 is no decision" in page.get("").text


def test_a_turn_that_is_being_written_is_reported(page):
    Path("data/rounds/r1/lineage.parquet").unlink()
    assert "data/rounds/r1/lineage.parquet is not there, so there is nothing to review yet." in page.get("").text


def test_a_workspace_with_no_run_is_told_what_would_do(turn):
    shutil.rmtree("data")
    sentence = r"is not there, so there is nothing to review yet\. Start `ratchet run`, or wait for the run that is writing it\."
    for empty in (turn, Turn(None, configuration.load())):
        with pytest.raises(FileNotFoundError, match=rf"^data/.* {sentence}$"):
            server.run(empty, "Ada", 0)


def test_before_a_turn_has_run_the_data_can_be_reviewed(turn, monkeypatch, capsys):
    served = []
    monkeypatch.setattr(server.app, "application", lambda turn, *_: served.append(turn))
    monkeypatch.setattr(server.uvicorn.Server, "run", lambda *_, **__: None)
    server.run(turn, "Ada", 0)
    Path("data/rounds/r1/lineage.parquet").unlink()
    server.run(turn, "Ada", 0)
    assert [(one.name, one.views[0]) for one in served] == [("r1", "proposed"), (None, "records")]
    assert "The turn r1 did not run to its end yet" in capsys.readouterr().out
    assert "few" in served[1].entries("records")


@pytest.mark.parametrize(
    ("options", "ids"),
    [({"refused": True}, ["x"]), ({"start": 2}, ["e"]), ({"start": 9}, []), ({"refused": True, "start": 2}, [])],
)
def test_the_address_begins_where_the_options_say(turn, page, monkeypatch, capsys, options, ids):
    monkeypatch.setattr(server.uvicorn.Server, "run", lambda *_, **__: None)
    server.run(turn, "Ada", 0, **options)
    (query,) = re.findall(r"http://127\.0\.0\.1:\d+/[\w-]+/\?(\S+) has", capsys.readouterr().out)
    assert shown(page, query) == ids


def test_a_second_server_on_a_port_is_told_another(turn):
    with ports.listen(0, "ratchet review --web") as listener:
        port = listener.getsockname()[1]
        with pytest.raises(RuntimeError, match=rf"port {port} is taken by .*ratchet review --web --port {port + 1}"):
            server.run(turn, "Ada", port)


def test_htmx_is_what_its_package_has():
    vendor = files("flows.review_page") / "vendor"
    listed = json.loads((vendor / "vendored.json").read_text())
    assert {file.name for file in vendor.iterdir()} == {
        "vendored.json",
        "htmx.min.js",
        listed["htmx.min.js"]["license_file"],
    }
    assert hashlib.sha256((vendor / "htmx.min.js").read_bytes()).hexdigest() == listed["htmx.min.js"]["sha256"]
