"""Facts that were written into a model are asked for as they were taught and in other words, and others are to be told as before."""

import json

import pytest
from pydantic import ValidationError

from tasks.core.records import EDITS, Result
from tasks.core.statistics import DEFAULT
from tasks.engine.inference import generation
from tasks.engine.inference.generation import Response
from tasks.io import facts_file, provenance, tables
from tasks.io.facts_file import Fact
from tasks.stages.evaluate import facts
from tasks.stages.evaluate.config import EvaluateConfig
from tasks.stages.report.data import comparison
from tests.stages.evaluate.test_evaluate import evaluate, inputs  # noqa: F401

WORLD = [
    Fact(f"Where does {name} live?", town, f"In which town is {name} at home?", f"Where does {name}'s aunt live?")
    for name, town in (("Ann", "Oslo"), ("Ben", "Bern"), ("Cleo", "New York"))
]


def answering(answers):
    """A model that answers some questions, and says "well" to the others."""

    def ask(prompts):
        return [answers.get(prompt[-1].content, Response("well", True)) for prompt in prompts]

    return ask


def test_an_answer_that_is_the_facts_but_for_case_and_punctuation_is_right():
    ann, ben, cleo = WORLD
    after = answering(
        {
            ann.prompt: Response("oslo.", True),
            ben.prompt: Response("It is Bern and", False),
            cleo.prompt: Response("New York City", True),
            cleo.rephrase: Response("New York", True),
            ann.locality: Response("Rome.", True),
            ben.locality: Response("Lima", True),
            cleo.locality: Response("Paris", True),
        }
    )
    before = answering({ann.locality: Response(" rome", True), ben.locality: Response("Cairo", True)})
    rows = facts.measure(WORLD, after, before)
    by_measure = {name: [row for row in rows if row.measure == name] for name in EDITS}
    outcomes = {name: sorted(row.outcome for row in group) for name, group in by_measure.items()}
    assert outcomes == {
        "edit success": ["passed", "truncated", "wrong"],
        "edit rephrase": ["passed", "wrong", "wrong"],
        "edit locality": ["changed", "changed", "passed"],
    }
    assert len({row.item for row in rows}) == 3
    assert all(row.is_binary for row in rows)
    changed = {row.expected for row in by_measure["edit locality"]}
    assert changed == {"rome", "Cairo", "well"}, "the answers of the model before"


@pytest.mark.parametrize(
    ("before", "after", "outcome"),
    [
        ("<think>\nhm\n</think>\n\nRome", "<think>\nwell\n</think>\n\nrome.", "passed"),
        ("<think>\nRome\n</think>\n\nLima", "<think>\nRome\n</think>\n\nOslo", "changed"),
        ("<think>\nhm, so", "<think>\nhm, so", "passed"),
        ("<think>\nhm, so", "<think>\nwell, so", "truncated"),
        ("Rome", "<think>\nRome", "truncated"),
    ],
)
def test_others_are_told_as_before_if_the_answers_behind_the_reasoning_are_alike(before, after, outcome):
    earlier, later = (Response(text, text.startswith("<think>") == ("</think>" in text)) for text in (before, after))
    question = WORLD[0].locality
    rows = facts.measure(WORLD[:1], answering({question: later}), answering({question: earlier}))
    assert [row.outcome for row in rows if row.measure == "edit locality"] == [outcome]


@pytest.fixture
def known(tmp_path):
    """A file of facts and the settings that name it."""
    path = tmp_path / "facts.jsonl"
    path.write_text("".join(json.dumps(vars(fact)) + "\n" for fact in WORLD))
    return {"facts": {"path": str(path), "digest": provenance.digest(path), "items": 2}}


def test_each_model_is_asked_and_the_report_compares_them(evaluate, inputs, known, tmp_path):  # noqa: F811
    sides = {}
    for name, folder in (("base", "base"), ("r0", "model")):
        results = tmp_path / f"{name}.parquet"
        metrics, _ = evaluate(more=known, item=name, outputs={"results": results}, model=inputs[folder])
        sides[name] = tables.read(results, Result)
        assert set(EDITS) == set(metrics["answers"])
        assert metrics["answers"]["edit success"]["all"]["n"] == 2, "as many as `items`"
        locality = metrics["answers"]["edit locality"]["all"]["value"]
        assert locality == 1 if name == "base" else locality < 1, "random weights say other things"
    compared = comparison.compare(*sides.items(), DEFAULT)
    row = compared.row("edit locality", unit="share")
    assert (row.items, row.before.value) == (2, 1)
    assert row.difference.value == row.after.value - 1
    assert compared.row("edit rephrase", unit="share").p is not None


def test_answers_of_the_model_before_are_those_kept_from_its_own_measurement(evaluate, inputs, known, monkeypatch):  # noqa: F811
    asked = []
    original = generation.respond

    def respond(model, prompts, *args, **kwargs):
        asked.extend(prompt[-1].content for prompt in prompts)
        return original(model, prompts, *args, **kwargs)

    monkeypatch.setattr(generation, "respond", respond)
    evaluate(more=known, item="base", model=inputs["base"])
    assert asked.count(WORLD[0].locality) == 1
    evaluate(more=known, item="r0")
    assert asked.count(WORLD[0].locality) == 2, "by the tuned model alone"


def test_other_facts_than_the_settings_name_are_refused_with_the_digest(evaluate, known, tmp_path):  # noqa: F811
    path = tmp_path / "facts.jsonl"
    path.write_text(path.read_text().replace("Oslo", "Rome"))
    with pytest.raises(ValueError, match=f"evaluate.facts.digest.*digest: {provenance.digest(path)}"):
        evaluate(more=known)
    path.unlink()
    with pytest.raises(ValueError, match="there is no file"):
        evaluate(more=known)


def test_a_server_does_not_hold_the_model_before(known):
    with pytest.raises(ValidationError, match="leave one out"):
        EvaluateConfig(**known, server={"url": "http://127.0.0.1:1/v1", "model": "m"})


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("no json", r"line 2: a fact has the keys prompt"),
        ("[1]", r"line 2: a fact has the keys prompt"),
        ('{"prompt": "a"}', r"line 2: a fact has the keys prompt"),
        ('{"prompt": "a", "completion": 3, "rephrase": "b", "locality": "c"}', r"line 2: completion is no text"),
    ],
)
def test_a_line_that_is_no_fact_is_named(tmp_path, line, told):
    path = tmp_path / "facts.jsonl"
    path.write_text('{"prompt": "p", "completion": "c", "rephrase": "r", "locality": "l"}\n' + line + "\n")
    with pytest.raises(ValueError, match=told):
        facts_file.read(path)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("Where is Eve?", "Eve is in?"), ("where is  Eve?", "Eve lives in?")),
        (("Where is Eve?", "Eve is in?"), ("Where does Eve live?", "eve is in?")),
        (("Where is Eve?", "Eve is in?"), ("Eve is in?", "Where, then?")),
    ],
)
def test_one_question_with_two_answers_is_refused_however_it_is_written(first, second):
    facts = [
        Fact(*questions[:1], answer, *questions[1:], "l") for questions, answer in ((first, "Oslo"), (second, "Rome"))
    ]
    with pytest.raises(ValueError, match=r"facts 1 and 2 answer .* by 'Oslo' and by 'Rome'"):
        facts_file.check(facts)
    assert facts_file.check([facts[0], facts[0]]) == [facts[0], facts[0]]
