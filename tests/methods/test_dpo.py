"""DPO is TRL's on the same pairs, starts at log 2, and learns which answer is better; its reference is measured once and kept."""

import math
from dataclasses import replace

import pytest
from pydantic import ValidationError

from tasks.core.records import FaultPair, Message, Tests
from tasks.core.training import Training
from tasks.engine.encode import ExampleEncoder
from tasks.engine.forward import use_packed_attention
from tasks.engine.sequences import listed
from tasks.engine.training import train as engine
from tasks.engine.training.reference import with_reference
from tasks.methods.objectives.dpo.config import DpoConfig
from tasks.stages.fetch.random_init import byte_tokenizer
from tests import tiny as small
from tests.methods import preferences
from tests.methods.contract import composition, part
from tests.methods.official import frozen
from tests.support import ScratchRun

ROWS = [small.example(number, response=f"good {number}", rejected="bad") for number in range(6)]
TURNS = [Message("user", "1?"), Message("assistant", "one"), Message("user", "2?"), Message("assistant", "two")]


def encoder(**settings):
    return ExampleEncoder(byte_tokenizer(), 96, objective=part("objectives", "dpo", **settings))


def test_it_is_trls_on_the_same_pairs(tmp_path):
    trl = frozen("dpo")
    preferences.same(preferences.loss("dpo", preferences.pairs(), tmp_path, trl["settings"]), trl["loss"])


def test_before_the_first_step_it_is_log_two(tmp_path):
    found = preferences.loss("dpo", preferences.pairs(), tmp_path, {}, phases=(0.0, 0.0))
    preferences.same(found, math.log(2))


def test_in_bf16_answers_are_compared_by_exact_losses(tmp_path):
    found = preferences.loss("dpo", preferences.pairs(), tmp_path, {}, phases=(0.0, 0.0), compute=small.BF16)
    preferences.same(found, math.log(2))


def test_only_the_last_answers_of_a_pair_are_compared():
    row = small.example(messages=TURNS, rejected="too", weights=[1.0, 0.0, 1.0])
    (pair,) = preferences.encoded("dpo", row)
    assert preferences.text(pair, trained=True) == "two<|im_end|>"
    (worse,) = pair.auxiliary
    assert preferences.text(worse, trained=True) == "too<|im_end|>"
    assert preferences.text(worse) == preferences.text(pair).replace("two", "too")


def test_the_wrong_programs_of_faults_are_rejected_ones_if_it_is_set_so():
    row = small.example(response="Here:\n```python\nx = 1\n```", rejected="bad")
    fault = FaultPair("f", row.id, "x = 1", "x = 2", "mutation", "", True, "", 1.0, 1, 0.1, [], [], [], [], [])
    (pair,) = preferences.encoded("dpo", row, faults=[fault], pairs="faults")
    assert preferences.text(pair.auxiliary[0], trained=True) == "Here:\n```python\nx = 2\n```<|im_end|>"
    assert preferences.encoded("dpo", row, pairs="faults") == []


def test_a_fault_of_an_answer_that_is_no_program_takes_the_place_of_all_of_it():
    row = small.example(
        response="Use:\n```sql\nSELECT a\n```\nIt reads a.", tests=Tests(kind="check", code="{}", entry="")
    )
    wrong = row.response.replace("a", "b")
    fault = FaultPair("f", row.id, row.response, wrong, "generated", "", True, "", 1.0, 1, 0.1, [], [], [], [], [])
    (pair,) = preferences.encoded("dpo", row, faults=[fault], pairs="faults")
    assert preferences.text(pair.auxiliary[0], trained=True) == f"{wrong}<|im_end|>"


@pytest.mark.parametrize("rejected", ["long " * 20, "<|im_end|>"])
def test_a_pair_of_which_a_side_cannot_train_is_none(rejected):
    assert preferences.encoded("dpo", small.example(rejected=rejected), max_tokens=60) == [None]


def test_examples_without_a_rejected_answer_are_left_out_and_counted(tmp_path):
    run = ScratchRun(tmp_path)
    rows = [*ROWS, small.example(7)]
    sequences = small.stored(rows, encoder(), run)
    assert len(sequences) == 6
    assert run.said == ["tune r0: 1 of 7 examples have nothing that objective 'dpo' trains on"]


def test_without_any_rejected_answer_it_says_what_to_bring(tmp_path):
    with pytest.raises(ValueError, match=r"'dpo' compares two answers.*`chosen` and `rejected`"):
        small.stored([small.example()], encoder(), ScratchRun(tmp_path))


def test_training_prefers_the_better_answers(tiny, tmp_path):
    objective = part("objectives", "dpo", beta=0.5)
    sequences = small.stored(ROWS, encoder(beta=0.5), ScratchRun(tmp_path))
    model = small.load(tiny)
    known = with_reference(model, sequences, {}, small.FP32, tmp_path)
    parts = replace(composition(), objective=objective, optimizer=part("optimizers", "adamw", learning_rate=1e-3))
    plan = Training(pack_tokens=96, max_tokens=10_000, epochs=8, warmup=0.0, save_every=0)
    result = engine.train(model.train(), engine.TrainData(known), parts, plan, small.FP32, tmp_path)
    losses = [loss for *_, loss in result.losses]
    assert losses[0] == pytest.approx(math.log(2), rel=1e-4)
    assert losses[-1] < 0.5 * losses[0]


def test_the_reference_reads_pairs_for_their_lengths_and_then_row_by_row(tmp_path, monkeypatch):
    pairs, reads = listed(preferences.pairs()), []
    read = pairs.read
    monkeypatch.setattr(pairs, "read", lambda place: reads.append(place) or read(place))
    with_reference(preferences.model(0.5), pairs, {}, small.FP32, tmp_path)
    assert len(reads) == 3 * len(pairs), "each once, and once for each of its two answers"


def test_the_reference_is_measured_once_for_one_model_and_set(tmp_path, monkeypatch):
    pairs = preferences.pairs()
    model, calls = preferences.model(0.5), []
    use_packed_attention(model)  # which reads, to check the model
    model.get_input_embeddings().register_forward_hook(lambda *_: calls.append(1))

    def reference(sequences, weights):
        return with_reference(model, sequences, {"weights": weights}, small.FP32, tmp_path)

    first = reference(pairs, "a")
    measured = len(calls)
    assert measured > 0
    assert list(reference(pairs, "a")) == list(first)
    assert len(calls) == measured, "it was kept"
    reference(pairs, "b")
    assert len(calls) == 2 * measured, "another model"
    reference(pairs[:2], "a")
    assert len(calls) > 2 * measured, "other pairs"
    nats = first[0].auxiliary[0].columns["reference"]
    assert len(nats) == len(first[0].auxiliary[0])
    assert len(set(nats)) == 1


def test_beta_is_positive():
    with pytest.raises(ValidationError, match="beta"):
        DpoConfig(beta=0)
