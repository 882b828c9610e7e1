"""The page in a browser: keys, filters, edits, undo, many at once, two people, a browser that goes away, hostile names and texts."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser import NEEDS_BROWSER, PATIENCE_MS
from tests.flows.review_page.conftest import DECISIONS, ITEMS, PASSES, RECORDS, decided

REFUSED = re.compile(r"(status of|Status Error Code) 4\d\d")
"""A refused decision in the browser's words, and in htmx's."""
AS_BOB = "const field = document.getElementById('author'); field.value = field.defaultValue = 'Bob';\n"
"""What makes a page that of a server which was started as Bob, before its own script runs."""

pytestmark = NEEDS_BROWSER


@pytest.fixture
def person(browser, address):
    """A browser of its own, by which a person opens the page; what goes wrong in it fails the test."""
    contexts, wrong = [], []

    def opened(query="", context=None) -> Page:
        if context is None:
            context = browser.new_context(viewport={"width": 1000, "height": 800})
            context.set_default_timeout(PATIENCE_MS)
            contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
        page.on(
            "console",
            lambda said: said.type == "error" and not REFUSED.search(said.text) and wrong.append(said.text),
        )
        page.on("request", lambda sent: sent.url.startswith((address, "data:")) or wrong.append(sent.url))
        page.goto(f"{address}?{query}")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.fixture(autouse=True, scope="module")
def patient():
    expect.set_options(timeout=PATIENCE_MS)
    yield
    expect.set_options(timeout=5_000)


def card(page, identity):
    return page.locator(f"article[data-id='{identity}']")


def press(page, *keys):
    for key in keys:
        page.keyboard.press(key)


def test_keys_go_through_the_entries_and_decide(person):
    page = person()
    press(page, "j")
    expect(card(page, "a2")).to_be_focused()
    press(page, "j")
    expect(card(page, "e")).to_be_focused()
    press(page, "k", "a")
    expect(card(page, "a2")).to_contain_text("accept by Ada")
    expect(card(page, "e")).to_be_focused()
    press(page, "r")
    expect(card(page, "e")).to_contain_text("reject by Ada")
    assert [(line["id"], line["decision"]) for line in decided()] == [("a2", "accept"), ("e", "reject")]


def test_keys_in_a_field_are_letters(person):
    page = person()
    page.get_by_label("Source contains").fill("")
    page.get_by_label("Source contains").press_sequentially("jar")
    expect(page.get_by_label("Source contains")).to_have_value("jar")
    assert decided() == []


def test_filters_list_what_matches(person):
    page = person()
    page.get_by_label("Flag").select_option("sparse")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator("article")).to_have_count(1)
    expect(card(page, "e")).to_be_visible()
    page.get_by_role("link", name="Refused rewrites").click()
    expect(card(page, "x")).to_be_visible()


def test_an_edit_that_fails_its_tests_is_refused_and_stays_in_its_field(person, programs):
    page = person()
    press(page, "j", "e")
    field = page.get_by_label("The answer")
    expect(field).to_be_focused()
    field.fill("def f():\n    return 2\n")
    press(page, "Control+Enter")
    expect(page.locator("#message")).to_contain_text("The edit fails its tests")
    expect(field).to_have_value("def f():\n    return 2\n")
    assert decided() == []
    field.fill(f"{PASSES}# Ω")
    press(page, "Control+Enter")
    expect(card(page, "a2")).to_contain_text("edit by Ada")
    assert [line["text"] for line in decided()] == [f"{PASSES}# Ω"]


def test_undo_takes_a_decision_back(person):
    page = person()
    press(page, "j", "r")
    expect(card(page, "a2")).to_contain_text("reject by Ada")
    press(page, "k", "u")
    expect(card(page, "a2").get_by_role("button", name="Undo")).to_have_count(0)
    assert [line["decision"] for line in decided()] == ["reject", "withdraw"]


def test_many_are_decided_after_their_number_was_seen(person):
    page = person()
    page.get_by_role("button", name="Accept…").click()
    expect(page.get_by_role("button", name="Accept 2 entries")).to_be_visible()
    assert decided() == []
    page.get_by_role("button", name="Accept 2 entries").click()
    expect(page.get_by_role("heading", name="Nothing matches")).to_be_visible()
    assert {line["id"] for line in decided()} == {"a2", "e"}


def test_of_two_pages_the_later_one_is_told_and_overwrites_nothing(person):
    first, second = person(), person()
    second.get_by_label("Decided by").fill("Grace")
    card(second, "a2").focus()
    press(first, "j", "a")
    expect(card(first, "a2")).to_contain_text("accept by Ada")
    press(second, "r")
    expect(card(second, "a2").get_by_role("alert")).to_contain_text("Ada decided on it meanwhile (accept)")
    assert [line["author"] for line in decided()] == ["Ada"]
    expect(card(second, "a2")).to_be_focused()
    press(second, "r")
    expect(card(second, "a2")).to_contain_text("reject by Grace")
    assert [line["author"] for line in decided()] == ["Ada", "Grace"]


def test_a_decision_that_follows_another_at_once_is_taken_too(person):
    page = person()
    again = "document.querySelector('article[data-id=a2] button[value=reject]').click()"
    page.evaluate(f"document.addEventListener('htmx:afterRequest', () => {again}, {{once: true}})")
    press(page, "j", "a")
    expect(card(page, "a2")).to_contain_text("reject by Ada")
    assert [line["decision"] for line in decided()] == ["accept", "reject"]


def test_a_flag_asks_for_a_better_answer_and_is_one_of_the_filters(person):
    page = person("view=examples")
    press(page, "j", "f")
    expect(page.get_by_text("flag by Ada")).to_be_visible()
    assert [line["decision"] for line in decided()] == ["flag"]
    page.locator("select[name=state]").select_option("flag")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator("article")).to_have_count(1)


def test_a_browser_that_goes_away_in_the_middle_of_an_edit_loses_no_draft(person):
    page = person()
    press(page, "j", "e")
    page.get_by_label("The answer").fill("def f():\n    return 1  # half")
    page.close()
    assert decided() == []
    again = person(context=page.context)
    press(again, "j", "e")
    expect(again.get_by_label("The answer")).to_have_value("def f():\n    return 1  # half")
    press(again, "Escape")
    expect(card(again, "a2")).to_be_focused()


def test_names_of_any_script_are_kept_and_shown_as_text(person):
    name = "Ōé 日本 🦉 <b>Ada</b>"
    page = person()
    page.get_by_label("Decided by").fill(name)
    card(page, "a2").focus()
    press(page, "a")
    expect(card(page, "a2")).to_contain_text(f"accept by {name}")
    assert [line["author"] for line in decided()] == [name]
    expect(person(context=page.context).get_by_label("Decided by")).to_have_value(name)


def test_a_name_that_was_typed_stands_in_for_the_name_that_it_replaced_alone(person):
    """Who starts the page as somebody else decides under that name."""
    page = person()
    page.get_by_label("Decided by").fill("Grace")
    other = page.context.new_page()
    other.route("**/page.js", lambda route: route.fulfill(response=route.fetch(), body=AS_BOB + route.fetch().text()))
    other.goto(page.url)
    expect(other.get_by_label("Decided by")).to_have_value("Bob")
    other.close()


def test_a_key_that_is_held_down_decides_once(person):
    page = person("view=examples")
    press(page, "j")
    held = "document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {key: 'r', repeat: true, bubbles: true}))"
    page.evaluate(held)
    page.wait_for_timeout(300)
    assert decided() == []


def test_a_program_that_holds_markup_is_text(person):
    for query in ("", "view=records", "view=items"):
        page = person(query)
        expect(page.locator("main").get_by_text("<script>alert(1)</script>").first).to_be_visible()
        assert page.locator("main script, main img").count() == 0
        assert "{{ 7 * 7 }}" in page.locator("main").text_content()


def test_records_are_rescued_and_items_left_out_by_keys(person):
    page = person("view=records")
    press(page, "j", "r", "e", "a")  # of which `r` and `e` are keys of other views
    expect(card(page, "long")).to_contain_text("accept by Ada")
    assert [(line["id"], line["decision"]) for line in decided(RECORDS)] == [("long", "accept")]
    page.get_by_role("link", name="Evaluation items").click()
    page.wait_for_url("**view=items*")  # a key that is pressed before is one of the page that goes
    press(page, "j", "r")
    expect(card(page, "t0")).to_contain_text("reject by Ada")
    assert [(line["id"], line["decision"]) for line in decided(ITEMS)] == [("t0", "reject")]
    assert decided(DECISIONS) == []
