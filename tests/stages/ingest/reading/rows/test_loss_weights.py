"""A column of weights belongs to the response's characters, and stays with them."""

import json

import pytest

from tasks.core.records import Example, Refusal
from tasks.io.sources.record import Row
from tasks.stages.ingest.config import File
from tasks.stages.ingest.reading.examples import example_from_row


def read(response, weights, **row):
    source = File.model_validate({"from": "file", "path": "a.jsonl", "weights": "w"})
    values = {"prompt": "Well?", "completion": response, "w": weights} | row
    return example_from_row(Row("line 1", values), "file a.jsonl", source, "a")


def test_each_character_has_its_weight():
    record = read("yes", [1, 0, 2.5])
    assert isinstance(record, Example)
    assert record.weights == [1.0, 0.0, 2.5]


def test_a_csv_holds_them_as_json():
    assert read("yes", json.dumps([1, 0, 2])).weights == [1.0, 0.0, 2.0]


def test_what_is_cut_off_around_the_text_takes_its_weights_along():
    assert read(" yes\n", [9, 1, 2, 3, 9]).weights == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("empty", [None, ""])
def test_an_empty_cell_means_ones(empty):
    assert read("yes", empty).weights is None


def test_the_last_message_of_a_conversation_is_meant():
    turns = [{"role": "user", "content": "Well?"}, {"role": "assistant", "content": "no"}]
    assert read("", [1, 2], messages=turns).weights == [1.0, 2.0]
    further = [{"role": "user", "content": "So?"}, {"role": "assistant", "content": "never", "weight": 0}]
    record = read("", [1, 2], messages=[*turns, *further])
    assert (record.response, record.weights, record.context_answers) == ("no", [1.0, 2.0], None)


@pytest.mark.parametrize(
    ("response", "weights", "words"),
    [
        ("yes", [1, 2], "2 weights for 3 characters"),
        ("yes", [1, 2, -1], "no list of finite numbers"),
        ("yes", [1, 2, float("nan")], "no list of finite numbers"),
        ("yes", "1, 2, 3", "no list of finite numbers"),
        ("yes", [10**400, 1, 1], "no list of finite numbers"),
        ("yes", "[" * 200_000, "no list of finite numbers"),
        ("yes", 3, "no list of finite numbers"),
        ("a\r\nb", [1, 1, 1, 1], "characters would move"),
        ("e\u0301", [1, 1], "characters would move"),
    ],
)
def test_weights_that_do_not_fit_are_refused(response, weights, words):
    record = read(response, weights)
    assert isinstance(record, Refusal)
    assert record.reason == "weights do not fit"
    assert words in record.detail
