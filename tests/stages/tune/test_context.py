"""No text that the model's context does not hold trains, is validated on, or is looked at, whatever the part of a training it comes from."""

import pytest

from tasks.core.records import Document, Example
from tasks.io import tables
from tasks.stages.tune import stage
from tests import tiny as small
from tests.stages.tune.conftest import METHODS, examples

CONTEXT = 80
REFUSAL = r"has 80 tokens, and a text of \d+ tokens .* Set tune\.pack_tokens: 80 or less"


@pytest.fixture
def short(tune, inputs, tmp_path, monkeypatch):
    """The data of a training, under these settings, of a model whose context is short."""
    inputs["base"] = small.short(inputs["base"], tmp_path / "short", CONTEXT)
    given = []
    monkeypatch.setattr(stage.job, "execute", lambda *arguments, **_: given.append(arguments[2]) or {})

    def of(**settings):
        tune(**settings)
        return given[-1]

    return of


def test_an_example_is_refused_with_the_setting(short, inputs):
    tables.write(inputs["examples"], examples(4, response="x" * CONTEXT), Example)
    with pytest.raises(ValueError, match=REFUSAL):
        short()


@pytest.mark.parametrize("table", ["examples", "valid"])
@pytest.mark.parametrize("objective", ["dpo", "orpo", "simpo", "kto"])
def test_a_rejected_answer_is_refused_as_one_that_trains(short, inputs, objective, table):
    methods = METHODS | {objective: {}}
    for name in ("examples", "valid"):
        tables.write(inputs[name], examples(4, rejected="no"), Example)
    assert short(objective=objective, methods=methods).train
    tables.write(inputs[table], examples(4, rejected="x" * CONTEXT), Example)
    with pytest.raises(ValueError, match=REFUSAL):
        short(objective=objective, methods=methods)


def test_a_prompt_before_the_answer_of_another_example_ends_where_the_context_does(short, inputs):
    prompt, answer = small.example(prompt="?" * 50, desirable=True), small.example(1, response="x" * 50, desirable=True)
    tables.write(inputs["examples"], [prompt, answer], Example)
    linked, _ = short(objective="kto", methods=METHODS | {"kto": {}}).train
    assert len(linked) < len(linked.auxiliary[0]) == CONTEXT


def test_general_texts_are_cut_where_the_context_ends(short, inputs):
    text = Document("0", "of the " * 60, "general", "0", "train", "here", "MIT")
    tables.write(inputs["documents"], [text], Document)
    data = short(replay=0.3, pack_tokens=1024, probe={"corpus": "general", "tokens": 200})
    for pieces in (data.probe, [sequence for sequence in data.train if sequence.domain == "general"]):
        assert max(map(len, pieces), default=0) == CONTEXT
