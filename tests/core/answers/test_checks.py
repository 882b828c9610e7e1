"""Every kind of check reads what people and models write, and says why where it cannot."""

import importlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.core.answers import registry, tool_choice
from tasks.core.answers.base import Row
from tasks.core.answers.overlap import Tokenizer
from tasks.core.records import Message, identify
from tests.core.answers.grading import graded, unfit


@given(st.text())
def test_no_text_breaks_a_check(text):
    for check in ("number", "exact", "contains", "labels", "json", "tool_call", {"kind": "regex", "pattern": "a(b)?"}):
        registry.parse(check).expect(Row("", text))
    assert graded("number", "1", text).score in (0, 1)
    assert graded("json", "{}", text).score <= 1
    assert graded("tool_call", '{"name": "f", "arguments": {}}', text).score in (0, 1)
    assert graded("choice", "A", text, prompt="A) yes\nB) no").score in (0, 1)


def test_exact_answers_are_normalised_as_far_as_the_options_say():
    assert graded("exact", "New  York", "New York\n").score == 1
    assert graded("exact", "New York", "new york.").score == 0
    assert (
        graded({"kind": "exact", "ignore_case": True, "ignore_punctuation": True}, "New York", "new york.").score == 1
    )
    assert graded({"kind": "exact", "ignore": ["^The answer is "]}, "Paris", "The answer is Paris").score == 1
    assert graded({"kind": "exact", "ignore_numbers": True}, "ab 1", "ab 2").score == 1
    assert graded({"kind": "exact", "reference": "right"}, "so it is Rome", "Rome", right="Rome").score == 1
    assert unfit({"kind": "exact", "reference": "right"}, "Rome", right=None) == "no reference"
    assert unfit({"kind": "exact", "ignore_punctuation": True}, "?!") == "nothing to compare"


def test_a_pattern_takes_the_answer_out_on_both_sides():
    check = {"kind": "regex", "pattern": r"answer is (\w+)"}
    assert graded(check, "So the answer is Blue", "answer is red; no, the answer is blue.").score == 1
    assert graded(check | {"take": "first"}, "the answer is blue", "answer is red; no, the answer is blue").score == 0
    assert graded(check, "the answer is blue", "blue").verdict == "no match"
    assert graded(check | {"reference": "bare"}, "…", "the answer is blue", bare="Blue").score == 1
    assert unfit(check, "blue") == "no match"
    assert graded(check | {"pattern": r"answer: (\w+)|#### (\w+)"}, "#### blue", "answer: Blue").score == 1


def test_what_must_be_contained_may_be_a_list():
    check = {"kind": "contains", "reference": "facts"}
    assert graded(check, "x", "Born in ULM, 1879.", facts=["Ulm", "1879"]).score == 1
    assert graded(check, "x", "Born in Ulm.", facts=["Ulm", "1879"]) == (0.0, "wrong", "ulm", False)
    assert graded(check | {"require": "any"}, "x", "Born in Ulm.", facts=["Ulm", "1879"]).score == 1
    assert unfit(check, "x", facts=[]) == "nothing to compare"


def test_labels_are_found_alone_or_as_the_only_one_of_a_sentence():
    named = {"kind": "labels", "labels": ["positive", "negative", "not sure"]}
    assert graded("labels", "Positive", "positive.\nBecause it is good").score == 1
    assert graded("labels", "positive", "I think it is positive").verdict == "wrong"
    assert graded(named, "positive", "I think it is Positive!").score == 1
    assert graded(named, "positive", "positive or negative?") == (0.0, "no label", "", False)
    assert unfit(named, "neutral") == "no known label"


@pytest.mark.parametrize(
    ("labels", "answer", "label"),
    [
        (["A+", "A", "A-"], "A-", "a-"),
        (["A+", "A", "A-"], "**A**.", "a"),
        (["A+", "A", "A-"], "The grade is A+.", "a+"),
        (["C", "C++", "C#"], "C#", "c#"),
        (["+", "-", "0"], "-", "-"),
        (["1", "-1", "0"], "−1", "-1"),
        (["1", "-1", "0"], "It is 0.5", ""),
        (["sure", "not sure"], "- Not sure", "not sure"),
        (["sure", "not sure"], "sure or not sure", ""),
        (["50%", "100%"], "<50>", "50%"),
        (["正面", "负面"], "“正面”。", "正面"),
        ([], "A-.", "a-"),
        ([], "«Positif»", "positif"),
        ([], "# Yes", "yes"),
    ],
)
def test_signs_are_a_part_of_a_label_and_punctuation_is_none(labels, answer, label):
    check = {"kind": "labels", "labels": labels}
    assert graded(check, label or labels[0], answer)[:3] == ((1, "passed", label) if label else (0, "no label", ""))
    assert not any(graded(check, other, answer).score for other in labels if other.casefold() != label)


ORDER = {"name": "Ada", "total": 3, "lines": [{"sku": "a", "n": 1}], "paid": True}
SCHEMA = {"type": "object", "required": ["name"], "properties": {"total": {"type": "number"}}}


def test_json_is_scored_field_by_field_within_its_schema():
    check = {"kind": "json", "json_schema": SCHEMA}
    reference = json.dumps(ORDER)
    assert graded(check, reference, f"Here:\n```json\n{reference}\n```").verdict == "passed"
    assert graded(check, reference, json.dumps(ORDER | {"total": 3.0})).score == 1
    half = graded(check, reference, json.dumps({"name": "Ada", "paid": 1, "lines": [{"sku": "a", "n": 2}]}))
    assert (half.verdict, half.score) == ("some fields", 2 / 5)
    assert graded(check, reference, json.dumps(ORDER | {"more": 1})).score == 5 / 6  # what nobody asked for is no gain
    assert graded(check, reference, '{"name": "Ada", "total": "3"}').verdict == "breaks the schema"
    assert graded(check, reference, '{"name": "Ada"').verdict == "no JSON"
    assert graded(check, reference, '{"name": NaN}').verdict == "no JSON"
    assert graded({"kind": "json", "fields": ["name"]}, reference, '{"name": "Ada"}').score == 1
    assert unfit(check, '{"total": 3}') == "breaks the schema"
    assert unfit("json", "total: 3") == "no JSON"


@pytest.mark.parametrize("empty", [[], {}])
def test_an_empty_list_or_object_is_a_field(empty):
    assert graded("json", json.dumps({"name": "a", "tags": empty}), '{"name": "a"}').score == 1 / 2
    assert graded("json", json.dumps({"tags": [1, empty]}), '{"tags": [1]}').score == 1 / 2
    assert graded("json", json.dumps({"tags": empty}), json.dumps({"tags": empty})).score == 1
    assert graded("json", json.dumps(empty), json.dumps(empty)).score == 1
    assert graded("json", "[]", "{}").score == 0
    call = json.dumps({"name": "f", "arguments": {"a": 1, "tags": empty}})
    assert graded("tool_call", call, '{"name": "f", "arguments": {"a": 1}}').verdict == "wrong arguments"


CALL = '<tool_call>{"name": "weather", "arguments": {"city": "Ulm", "days": 2}}</tool_call>'
BARE = CALL.removeprefix("<tool_call>").removesuffix("</tool_call>")


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (f"I look it up. {CALL}", "passed"),
        ('{"name": "weather", "arguments": {"days": 2, "city": "Ulm"}}', "passed"),
        ('[{"function": {"name": "weather", "arguments": "{\\"city\\": \\"Ulm\\", \\"days\\": 2}"}}]', "passed"),
        (CALL.removesuffix("</tool_call>"), "passed"),
        (CALL.replace("2", "3"), "wrong arguments"),
        (CALL.replace("weather", "time"), "wrong tool"),
        (CALL + CALL, "wrong tool"),
        (f"{BARE}\n{BARE}", "wrong tool"),
        (f"{BARE}; {BARE}", "wrong tool"),
        (f"<tool_call>{BARE}\n{BARE}</tool_call>", "wrong tool"),
        (f"As [1] says:\n```json\n{BARE}\n```", "passed"),
        (f'{BARE} is for {{"name": "Ann"}}', "passed"),
        ("It rains.", "no tool call"),
    ],
)
def test_a_tool_call_is_its_name_and_its_arguments(answer, verdict):
    assert graded("tool_call", CALL, answer).verdict == verdict


@pytest.mark.parametrize("arguments", ['""', "null", "{}", '"{}"'])
def test_a_call_of_a_tool_that_takes_nothing_may_leave_its_arguments_empty(arguments):
    assert graded("tool_call", '{"name": "now"}', f'{{"name": "now", "arguments": {arguments}}}').score == 1


def test_several_calls_may_come_in_any_order_and_arguments_may_be_left_out():
    both = CALL + CALL.replace("Ulm", "Bonn")
    assert graded("tool_call", both, CALL.replace("Ulm", "Bonn") + CALL).score == 1
    assert graded("tool_call", both, CALL + CALL).verdict == "wrong arguments"
    for one_after_another in (f"{BARE}\n{BARE.replace('Ulm', 'Bonn')}", f"[{BARE}, {BARE.replace('Ulm', 'Bonn')}]"):
        assert (
            graded("tool_call", both, one_after_another).score
            == graded("tool_call", one_after_another, both).score
            == 1
        )
        assert graded("tool_call", one_after_another, BARE).verdict == "wrong tool"
    assert graded({"kind": "tool_call", "compare": "name"}, CALL, CALL.replace("2", "3")).score == 1
    assert unfit("tool_call", "It rains.") == "no tool call"


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (tool_choice.written("weather"), "passed"),
        (CALL, "passed"),
        (tool_choice.written("weather_today"), "wrong tool"),
        (tool_choice.written(None), "wrong tool"),
        ("It rains.", "wrong tool"),
        ('<tool_call>{"nam', "no name"),
        (CALL + CALL.replace("weather", "time"), "several tools"),
    ],
)
def test_a_choice_is_the_whole_name_of_one_tool(answer, verdict):
    assert graded("tool_choice", CALL, answer).verdict == verdict


def test_no_tool_is_a_choice_too_and_what_cannot_be_read_is_none():
    for nothing in (tool_choice.written(None), "It rains."):
        assert graded("tool_choice", "It rains.", nothing).verdict == "passed"
    assert graded("tool_choice", "It rains.", '<tool_call>{"nam').score == 0
    spelt_out = {"kind": "tool_choice", "spelt_out": True}
    assert graded(spelt_out, tool_choice.written(None), tool_choice.written(None)).score == 1
    assert graded(spelt_out, tool_choice.written(None), "It rains.").verdict == "no choice"
    assert unfit("tool_choice", CALL + CALL.replace("weather", "time")) == "several tools"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("numbr", "does not match any of the expected tags"),
        ({"kind": "regex", "pattern": "("}, "is not a regular expression"),
        ({"kind": "exact", "ignore": ["["]}, "is not a regular expression"),
        ({"kind": "json", "json_schema": {"type": "objekt"}}, "this is no JSON schema"),
        ({"kind": "number", "tolerance": -1}, "greater than or equal to 0"),
        ({"kind": "number", "tolerence": 1}, "Extra inputs are not permitted"),
        ("regex", "Field required"),
    ],
)
def test_a_setting_that_is_no_check_is_refused_by_name(setting, message):
    with pytest.raises(ValidationError, match=message):
        registry.parse(setting)


def test_another_check_of_the_same_answer_makes_no_other_example():
    messages = [Message("user", "1 + 1?"), Message("assistant", "2")]
    checks = [registry.tests(registry.parse(kind), Row("1 + 1?", "2")) for kind in ("number", "exact")]
    assert identify(messages, checks[0]) == identify(messages, checks[1]) == identify(messages)


def test_every_kind_has_a_measure_of_its_own():
    assert len(set(registry.measures())) == len(registry.measures()) == 24
    assert {"number accuracy", "choice acc", "json score"} <= set(registry.measures())


def test_rouge_and_chrf_are_those_of_their_libraries():
    assert graded({"kind": "rouge", "variant": "rouge1"}, "the cat sat", "the cat").score == pytest.approx(0.8)
    assert graded("rouge", "the cat sat", "sat cat the").score == pytest.approx(1 / 3)
    assert graded("rouge", "the cat sat", "the  cat sat") == (pytest.approx(1), "passed", "the  cat sat", False)
    assert graded("chrf", "the cat sat", "the cat sat").score == pytest.approx(1)
    assert graded("chrf", "abc", "xyz") == (0.0, "wrong", "xyz", False)
    assert graded("chrf", "한국어, été", "한국어, e\u0301te\u0301").score == pytest.approx(1)
    assert unfit("rouge", "→") == "nothing to compare"


@pytest.mark.parametrize(
    ("reference", "answer", "score"),
    [
        ("Привет мир", "привет, мир!", 1),
        ("東京 2024", "大阪 2024", 1 / 3),
        ("über Äpfel", "über Öl", 1 / 2),
        ("ขอบคุณ", "ขอบใจ", 6 / 11),
        ("cafe\u0301", "café", 1),
        ("किताब पढ़ना", "कीताब पढ़ना", 1 / 2),
    ],
)
def test_rouge_reads_the_words_of_any_script(reference, answer, score):
    assert graded("rouge", reference, answer).score == pytest.approx(score)


@given(st.text(st.characters(max_codepoint=127)), st.booleans())
def test_texts_in_ascii_have_the_tokens_of_rouge(text, stem):
    tokenize = importlib.import_module("rouge_score.tokenizers").DefaultTokenizer(stem).tokenize
    assert Tokenizer(stem=stem).tokenize(text) == tokenize(text)


def test_a_library_that_is_missing_is_named_with_what_would_do(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sacrebleu.metrics", None)
    with pytest.raises(ValueError, match=r"needs the package sacrebleu: pip install .ratchet-llm\[overlap\]"):
        graded("chrf", "a", "b")
