"""Preference accuracy compares the two answers of a pair for each of their tokens, as a model scores them one sequence at a time."""

import json
from functools import partial

import pytest
import torch

from tasks.core import statistics
from tasks.core.records import Document, Example, Message, Result
from tasks.engine import chat_template
from tasks.engine.inference import scoring
from tasks.io import tables
from tasks.stages.evaluate import preferences, stage
from tasks.stages.evaluate.config import EvaluateConfig, StageConfig
from tests import tiny as small
from tests.support import NOTHING_DECIDED, ScratchRun

CONFIG = EvaluateConfig(max_tokens=200)
ANSWERS = ["to walk", "a house of stone by the sea", "red", "9"]
TURNS = [Message("user", "1?"), Message("assistant", "one"), Message("user", "2?"), Message("assistant", "two")]


@pytest.fixture(scope="module")
def pair(tiny):
    return small.decided(tiny)


def preferred(number, **fields):
    """A held-out pair of answers of different lengths."""
    answers = {"response": ANSWERS[number % 4], "rejected": ANSWERS[(number + 1 + number // 4) % 4]}
    return small.example(number, prompt=f"What is it, {number}?", **answers | {"split": "test"} | fields)


ROWS = [preferred(number) for number in range(12)]


def scored(pair, rows, config=CONFIG, run=None):
    model, tokenizer = pair
    chosen = preferences.preference_pairs(rows, tokenizer, config, run)
    return preferences.score(chosen, partial(scoring.losses, model))


@torch.no_grad()
def by_hand(pair, row, answer):
    """The mean log-probability of the tokens of an answer, its end of turn included."""
    model, tokenizer = pair
    prompt = tokenizer(chat_template.render_prompt(row.prompt, tokenizer), add_special_tokens=False)["input_ids"]
    ids = tokenizer(answer + tokenizer.eos_token, add_special_tokens=False)["input_ids"]
    scores = model(input_ids=torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1].log_softmax(dim=1)
    return scores.gather(1, torch.tensor(ids)[:, None]).mean().item()


def test_the_side_that_is_likelier_for_each_token_is_preferred(pair):
    results = scored(pair, ROWS)
    for row, result in zip(ROWS, results, strict=True):
        rejected, chosen = (by_hand(pair, row, answer) for answer in (row.rejected, row.response))
        assert (result.measure, result.item, result.value) == ("preference accuracy", row.id, float(chosen > rejected))
        shown = [float(line.split()[0]) for line in result.output.splitlines()]
        assert shown == pytest.approx([rejected, chosen], abs=1e-4)
        assert result.expected == row.response
        assert result.is_binary
    assert 0 < sum(result.value for result in results) < len(ROWS), "one-sided results would hide swapped sides"


def test_swapped_sides_swap_the_results(pair):
    swapped = [
        small.example(n, prompt=row.prompt[0].content, response=row.rejected, rejected=row.response)
        for n, row in enumerate(ROWS)
    ]
    assert [result.value for result in scored(pair, swapped)] == [1 - result.value for result in scored(pair, ROWS)]


def test_answers_that_are_equally_likely_are_a_tie_and_no_preference(pair):
    chosen = preferences.preference_pairs(ROWS[:3], pair[1], CONFIG, None)
    results = preferences.score(
        chosen, lambda sides: [scoring.Loss(side.id, 2.0 * len(side), len(side)) for side in sides]
    )
    assert [(result.outcome, result.value) for result in results] == [("tie", 0.0)] * 3


def test_of_a_conversation_the_last_answers_are_compared(pair):
    row = small.example(messages=TURNS, rejected="too", weights=[0.0, 1.0, 1.0])
    (result,) = scored(pair, [row])
    shown = [float(line.split()[0]) for line in result.output.splitlines()]
    assert shown == pytest.approx([by_hand(pair, row, "too"), by_hand(pair, row, "two")], abs=1e-4)


def test_pairs_that_cannot_be_scored_are_counted_and_answers_without_another_are_none(pair, tmp_path):
    run = ScratchRun(tmp_path, "r0")
    rows = [*ROWS[:2], preferred(2, rejected="long " * 60), preferred(3, rejected="<|im_end|>"), small.example(4)]
    assert [result.item for result in scored(pair, rows, run=run)] == [row.id for row in ROWS[:2]]
    assert run.said == [
        "evaluate r0: 2 of 4 held-out preference pairs are not scored: a side is longer than evaluate.max_tokens=200, or spells a control "
        "token"
    ]


def test_the_number_of_pairs_is_a_setting(pair):
    config = CONFIG.model_copy(update={"preference_items": 5})
    few = [result.item for result in scored(pair, ROWS, config)]
    assert len(few) == 5
    assert few == [result.item for result in scored(pair, ROWS, config)]
    assert scored(pair, ROWS, CONFIG.model_copy(update={"preference_items": 0})) == []


def test_the_stage_measures_the_test_set_and_the_gate_set(pair, tmp_path):
    outputs, run = evaluated(pair, tmp_path)
    expected = {result.item: result.value for result in scored(pair, ROWS)}
    figures = json.loads(outputs["metrics"].read_text())["answers"]["preference accuracy"]
    assert figures["all"] == statistics.proportion(int(sum(expected.values())), len(ROWS)).record()
    assert run.metrics[-1][1]["preference_accuracy"] == pytest.approx(sum(expected.values()) / len(ROWS), abs=1e-6)
    gated = [row for row in tables.read(outputs["gate"], Result) if row.measure == "preference accuracy"]
    assert len(gated) == 4
    assert all(expected[row.item] == row.value for row in gated)


def test_a_rejected_answer_beyond_the_context_is_refused_with_the_setting(pair, tmp_path):
    with pytest.raises(ValueError, match=r"a text of \d+ tokens .* Set evaluate\.max_tokens: 80 or less"):
        evaluated(pair, tmp_path, [preferred(0, rejected="x" * 80)], context=80)


def evaluated(pair, folder, rows=ROWS, context=None):
    """The outputs of stage `evaluate` on these rows as test and as gate set, and what the run heard."""
    for part in pair:
        part.save_pretrained(folder / "whole")
    model = small.short(folder / "whole", folder / "model", context) if context else folder / "whole"
    files = {name: folder / f"{name}.parquet" for name in ("test", "documents", "gate", "gate_documents")}
    for name, file in files.items():
        tables.write(file, *(([], Document) if "documents" in name else (rows, Example)))
    sections = {
        "compute": {"precision": "fp32", "threads": 1},
        "evaluate": {"max_tokens": 200, "gate_items": 4},
        "methods": {"plain": {}},
    }
    outputs = {"metrics": folder / "metrics.json", "results": folder / "r.parquet", "gate": folder / "g.parquet"}
    inputs = {"base": model, "model": model, "decisions": NOTHING_DECIDED} | files
    run = ScratchRun(folder, "r0")
    stage.main(inputs, outputs, StageConfig.model_validate(sections), run)
    return outputs, run
