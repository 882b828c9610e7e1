"""An objective brings its own columns, further rows and auxiliary sequences; the engine knows none of them by name.

The objective here is DPO (Rafailov et al. 2023, https://arxiv.org/abs/2305.18290) on pairs of answers, as a second one with needs
of its own beside FAIT: the rejected answer is an auxiliary sequence whose loss has a gradient, and the log-probability of each
answer under the reference model is a column.
"""

from dataclasses import dataclass, replace

import pytest
import torch
from torch.nn import functional as F

from tasks.core.config import Config
from tasks.core.records import Message
from tasks.core.sequences import Column, Encoding
from tasks.core.training import Training
from tasks.engine.encode import ExampleEncoder
from tasks.engine.forward import bind_loss
from tasks.engine.packing import Pack, collate
from tasks.engine.training import train as engine
from tasks.engine.training.compose import Part
from tasks.methods.objectives import Objective, ObjectiveSpec, Table
from tasks.stages.fetch.random_init import byte_tokenizer
from tests import tiny as small
from tests.methods.contract import composition, part
from tests.support import ScratchRun

BETA = 0.5
REFERENCE = "reference"


@dataclass(frozen=True)
class Preference:
    """An answer that is worse than an example's, and what the reference model thinks of both, in nats."""

    example: str
    rejected: str
    chosen_log_p: float
    rejected_log_p: float


class DpoConfig(Config):
    """Nothing to set."""


def encode_preferences(row, preferences, encoder, max_tokens, config):
    """The example's answer with each rejected one as its auxiliary sequence."""
    sequences, unused = [], 0
    for preference in preferences:
        pair = []
        for text, log_p in ((row.response, preference.chosen_log_p), (preference.rejected, preference.rejected_log_p)):
            answered = replace(row, messages=[*row.prompt, Message("assistant", text)])
            assert encoder.is_plain(answered)
            sequence = encoder.sequence(answered, encoder.conversation(answered))
            pair.append(replace(sequence, columns={REFERENCE: [log_p] * len(sequence)}))
        fits = all(len(sequence) <= max_tokens for sequence in pair)
        sequences += [replace(pair[0], auxiliary=(pair[1],))] if fits else [pair[0]]
        unused += not fits
    return Encoding(sequences, unused)


def log_ratios(nll, segments, reference, count):
    """log p - log p of the reference, of each sequence."""
    log_p = nll.new_zeros(count).index_add(0, segments, -nll)
    return log_p - nll.new_zeros(count).index_copy(0, segments, reference)


def dpo(nll, tokens, config):
    """-log sigmoid(beta (ratio of the chosen - ratio of the rejected)), over all pairs of the pack."""
    chosen = log_ratios(nll, tokens.segments, tokens.columns[REFERENCE], len(tokens.numbers))
    rejected = tokens.auxiliary
    others = log_ratios(rejected.nll, rejected.segments, rejected.columns[REFERENCE], len(rejected.owners))
    return -F.logsigmoid(BETA * (chosen[rejected.owners] - others)).sum()


DPO = Part(
    "dpo",
    ObjectiveSpec(
        config=DpoConfig,
        columns=(Column(REFERENCE, fill=0.0, missing="compares answers, and there are none to compare"),),
        table=Table("preferences", Preference, "answers are longer than a pack"),
        auxiliary_gradient=True,
    ),
    Objective(loss=dpo, encode=encode_preferences, reads_auxiliary=lambda config: True),
    DpoConfig(),
)
TOKENIZER = byte_tokenizer()
EXAMPLES = [small.example(number, response=f"good {number}") for number in range(6)]
PREFERENCES = [Preference(row.id, "bad", -20.0 - number, -9.5) for number, row in enumerate(EXAMPLES)]


def encoded():
    return [sequence for row in EXAMPLES for sequence in encoder(PREFERENCES).encoding(row).sequences]


def encoder(preferences):
    return ExampleEncoder(TOKENIZER, 64, objective=DPO, rows_of_table=preferences)


def log_probability(model, sequence):
    """log p of an answer, by the textbook."""
    logits = model(torch.tensor([sequence.ids])).logits[0, :-1]
    nll = F.cross_entropy(logits, torch.tensor(sequence.ids[1:]), reduction="none")
    return -nll[torch.tensor(sequence.weights[1:]) > 0].sum()


def test_its_loss_and_gradient_are_those_of_the_textbook(tiny):
    bound, plain = small.load(tiny).eval(), small.load(tiny).eval()
    bind_loss(bound, DPO, part("adapters", "none"))
    sequences = encoded()[:3]
    found = bound(**collate([Pack(tuple(sequences))], columns=DPO.spec.columns), num_items_in_batch=1)["loss"]
    margins = [
        log_probability(plain, sequence) - row.chosen_log_p
        - (log_probability(plain, sequence.auxiliary[0]) - row.rejected_log_p)
        for sequence, row in zip(sequences, PREFERENCES, strict=False)
    ]  # fmt: skip
    expected = -F.logsigmoid(BETA * torch.stack(margins)).sum()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    found.backward()
    expected.backward()
    for mine, other in zip(bound.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-3, atol=1e-5)


def test_training_prefers_the_chosen_answers(tiny, tmp_path):
    parts = replace(composition(), objective=DPO, optimizer=part("optimizers", "adamw", learning_rate=1e-3))
    plan = Training(pack_tokens=96, max_tokens=10_000, epochs=8, warmup=0.0, save_every=0)
    outcome = engine.train(small.load(tiny).train(), engine.TrainData(encoded()), parts, plan, small.FP32, tmp_path)
    losses = [loss for *_, loss in outcome.losses]
    assert losses[-1] < 0.5 * losses[0]


def test_rows_that_no_sequence_holds_are_counted_in_the_objectives_words(tmp_path):
    run = ScratchRun(tmp_path)
    table = [*PREFERENCES[1:], replace(PREFERENCES[0], rejected="bad" * 40)]
    sequences = small.stored(EXAMPLES, encoder(table), run)
    assert [len(sequence.auxiliary) for sequence in sequences] == [0, 1, 1, 1, 1, 1]
    assert run.said == ["tune r0: 1 answers are longer than a pack"]


def test_an_objective_without_auxiliary_sequences_does_not_read_them(tiny):
    model, calls = small.load(tiny).eval(), []
    bind_loss(model, part("objectives", "cross_entropy"), part("adapters", "none"))
    model.get_input_embeddings().register_forward_hook(lambda *_: calls.append(1))
    model(**collate([Pack(tuple(encoded()))], columns=DPO.spec.columns))
    assert len(calls) == 1


@pytest.mark.parametrize("columns", [(), DPO.spec.columns])
def test_columns_change_nothing_else_of_a_row(columns):
    plain, with_columns = (collate([Pack(tuple(encoded()))], columns=names) for names in ((), columns))
    for name, tensor in plain.items():
        assert torch.equal(tensor, with_columns[name]), name
