"""The page in a browser: an item opens by its link, the search finds, the worst come first; nothing fails and nothing is asked of a network."""

from urllib.parse import quote

import pytest
from playwright.sync_api import expect

from tests.browser import NEEDS_BROWSER, PATIENCE_MS
from tests.stages.report.material import HOSTILE, answers, losses, run_stage

pytestmark = NEEDS_BROWSER


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The address of a page: of two tasks the first is lost, and the other passed by both."""
    models = {
        "base": [*answers([True, True], HOSTILE), *losses("general", 3.0)],
        "r0": [*answers([False, True], "return 'a needle'"), *losses("general", 3.2)],
    }
    folder, _ = run_stage(tmp_path_factory.mktemp("page"), models, tasks=2)
    return (folder / "index.html").as_uri()


@pytest.fixture
def page(browser, address):
    """A page of the browser; what goes wrong on it, or is asked for beside it, fails the test."""
    opened, wrong = browser.new_page(), []
    opened.set_default_timeout(PATIENCE_MS)
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
    opened.on("console", lambda said: said.type in ("error", "warning") and wrong.append(said.text))
    opened.on("request", lambda sent: sent.url.startswith((address, "data:", "blob:")) or wrong.append(sent.url))
    yield opened
    opened.close()
    assert wrong == []


def test_an_item_opens_by_its_link_with_both_answers_and_its_id(page, address):
    page.goto(f"{address}#item={quote('pass@1/t0', safe='')}")
    item = page.locator("#item")
    expect(item).to_contain_text("id t0", timeout=PATIENCE_MS)
    expect(item).to_contain_text("toolz 1: t.py:f")
    expect(item).to_contain_text("<script>alert(1)</script>")  # as text
    expect(item).to_contain_text("return 'a needle'")
    expect(item.locator("header .badge")).to_have_text("lost")


def test_the_search_filters_and_the_order_brings_the_worst_first(page, address):
    page.goto(address)
    expect(page.locator("#items-count")).to_have_text("10 items", timeout=PATIENCE_MS)
    page.locator("#items-search").fill("needle")
    expect(page.locator("#items-count")).to_have_text("2 of 10 items", timeout=PATIENCE_MS)
    page.locator("#items-search").fill("")
    expect(page.locator("#items-count")).to_have_text("10 of 10 items", timeout=PATIENCE_MS)
    page.locator("#items-sort").select_option("best")
    first = page.locator(".tabulator-row").first
    expect(first).to_contain_text("passed by both", timeout=PATIENCE_MS)
    page.locator("#items-sort").select_option("worst")
    expect(first).to_contain_text("lost", timeout=PATIENCE_MS)


def test_every_chart_is_drawn(page, address):
    page.goto(address)
    figures = page.locator("figure[data-chart]")
    for place in range(figures.count()):
        figures.nth(place).scroll_into_view_if_needed()
        expect(figures.nth(place).locator("svg").first).to_be_attached(timeout=PATIENCE_MS)
