"""What FAIT's card asks: plain fine-tuning where nothing is marked, its weights where something is, and no gradient from faults."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from tasks import methods
from tasks.core.training import Moment, Training
from tasks.core.weights.surgery import plain
from tasks.engine.forward import bind_loss, observe
from tasks.engine.packing import Pack, collate
from tasks.engine.training import compose
from tasks.engine.training import train as engine
from tasks.methods.objectives import Auxiliary, Tokens
from tasks.methods.objectives.fait.column import CHAR, CODE, LINE
from tasks.methods.objectives.fait.config import SPEC, FaitConfig
from tasks.methods.objectives.fait.method import loss, margins, on_step, scattered
from tests import tiny as small
from tests.methods import contract
from tests.methods.contract import composition, part

MARKS = torch.tensor([CODE, CODE | LINE, CODE | LINE | CHAR, 0, CODE, CODE | LINE | CHAR])
SEGMENTS = torch.tensor([0, 0, 0, 0, 1, 1])
NLL = torch.tensor([0.5, 2.0, 1.0, 4.0, 3.0, 1.0])


def tokens(**known):
    """Six tokens of two programs."""
    basics = {
        "weights": torch.ones(6),
        "segments": SEGMENTS,
        "tasks": torch.zeros(6, dtype=torch.long),
        "task_tokens": torch.tensor([6]),
        "task_examples": torch.tensor([2]),
        "numbers": torch.tensor([3, 1]),
        "columns": {"marks": MARKS},
    }
    return Tokens(**basics | known)


def wrong_programs(nll, marks, owners):
    """The tokens of wrong programs, one of each sequence that has tokens here."""
    owners, segments = torch.tensor(owners).unique(return_inverse=True)
    return Auxiliary(torch.tensor(nll), segments, owners, torch.tensor(len(owners)), {"marks": torch.tensor(marks)})


def bound(base, **config):
    """The tiny model whose forward returns FAIT's loss."""
    model = small.load(base).eval()
    bind_loss(model, part("objectives", "fait", **config), part("adapters", "none"))
    return model


def row(pairs=True):
    sequences = [replace(sequence, number=number) for number, sequence in enumerate(small.sequences(3, seed=1))]
    return collate([Pack(tuple(map(small.paired, sequences) if pairs else sequences))], columns=SPEC.columns)


@pytest.mark.parametrize("case", [{"weighting": "none"}, {"weighting": "margin"}])
def test_without_a_share_or_without_marks_it_is_the_mean_cross_entropy_with_its_gradients(tiny, case):
    theirs, ours = small.load(tiny).eval(), bound(tiny, **case)
    batch = row(pairs=case["weighting"] == "none")
    found = ours(**batch)["loss"]
    sums = []
    for sequence in small.sequences(3, seed=1):
        logits = theirs(torch.tensor([sequence.ids])).logits[0, :-1]
        trained = torch.tensor(sequence.weights[1:]) > 0
        sums.append(F.cross_entropy(logits, torch.tensor(sequence.ids[1:]), reduction="none")[trained])
    expected = torch.cat(sums).mean()
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    found.backward()
    expected.backward()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, atol=1e-6, rtol=1e-5)


def test_the_weights_are_one_and_what_lines_and_tokens_gain():
    found = loss(NLL, tokens(), FaitConfig(weighting="constant", lines=0.5, tokens=2.0))
    weights = torch.tensor([1.0, 1.5, 3.5, 1.0, 1.0, 3.5])
    torch.testing.assert_close(found, (weights * NLL).sum())


def test_a_doubled_weight_adds_its_tokens_loss_over_the_number_of_tokens(tiny):
    # As the engine divides: by the trained tokens of the whole accumulated step, not by the weights.
    model, batch = bound(tiny, weighting="constant", lines=0.0, tokens=1.0), row(pairs=False)
    marked = (batch["labels"][0] != -100).nonzero()[0, 0]
    with torch.no_grad():
        nll, _ = observe(model, batch)
        plain = model(**batch, num_items_in_batch=torch.tensor(40))["loss"]
        batch["column_marks"][0, marked] = CODE | CHAR
        doubled = model(**batch, num_items_in_batch=torch.tensor(40))["loss"]
    torch.testing.assert_close(plain, nll.sum() / 40)
    torch.testing.assert_close(doubled - plain, nll[0] / 40, atol=1e-6, rtol=1e-5)


def test_weights_of_the_data_multiply():
    own = torch.tensor([1.0, 0.0, 2.0, 1.0, 1.0, 1.0])
    found = loss(NLL, tokens(weights=own), FaitConfig(weighting="constant"))
    torch.testing.assert_close(found, (own * torch.tensor([1.0, 2.0, 3.0, 1.0, 1.0, 3.0]) * NLL).sum())


def test_the_margin_is_that_of_the_card():
    # s+ = -1 over its marked token, s- = -3: lambda = 0.119203, and a token of both marks weighs 1.238406.
    wrong = wrong_programs([3.0, 9.0], [CODE | LINE | CHAR, CODE], [0, 0])
    config = FaitConfig(weighting="margin")
    share = margins(NLL, tokens(auxiliary=wrong), config.tau)
    torch.testing.assert_close(share, torch.tensor([0.119203, 0.0]), atol=1e-6, rtol=0)
    found = loss(NLL, tokens(auxiliary=wrong), config)
    torch.testing.assert_close(found, NLL.sum() + 0.119203 * NLL[1] + 2 * 0.119203 * NLL[2], atol=1e-5, rtol=0)


def test_a_side_without_marks_is_judged_by_its_whole_program():
    # The wrong program of the second sequence lacks what is right, so nothing of it differs: its mean is (2 + 4) / 2.
    wrong = wrong_programs([2.0, 4.0, 100.0], [CODE, CODE, 0], [1, 1, 1])
    share = margins(NLL, tokens(auxiliary=wrong), tau=2.0)
    torch.testing.assert_close(share[1], torch.tensor(-(3.0 - 1.0) / 2).sigmoid())


def test_several_wrong_programs_of_one_are_judged_by_all_their_differing_tokens():
    # s- of the first sequence is -(3 + 5 + 1) / 3, over both of its wrong programs; s+ = -1.
    marked = CODE | LINE | CHAR
    wrong = wrong_programs([3.0, 9.0, 5.0, 1.0], [marked, CODE, marked, marked], [0, 0, 0, 0])
    share = margins(NLL, tokens(auxiliary=wrong), tau=1.0)
    torch.testing.assert_close(share[0], torch.tensor(-3.0 + 1.0).sigmoid())


def test_only_trained_tokens_have_a_gradient_at_the_head(tiny):
    model, batch, states = bound(tiny, weighting="margin"), row(), []

    def keep(module, given, result):
        if result.last_hidden_state.requires_grad:
            result.last_hidden_state.retain_grad()
            states.append(result.last_hidden_state)

    model.get_decoder().register_forward_hook(keep)
    model(**batch)["loss"].backward()
    (hidden,) = states
    touched = hidden.grad[0].abs().sum(dim=1) > 0
    assert touched.tolist() == (batch["labels"][0] != -100).tolist()
    assert 0 < touched.sum() < len(touched)


def test_no_gradient_comes_from_the_wrong_programs(tiny):
    model, seen = bound(tiny), []
    batch = row()
    model.get_input_embeddings().register_forward_hook(
        lambda module, given, result: seen.append((given[0].tolist(), torch.is_grad_enabled()))
    )
    model(**batch)["loss"].backward()
    assert seen == [(batch["auxiliary_input_ids"].tolist(), False), (batch["input_ids"].tolist(), True)]


@pytest.mark.parametrize("config", [{"weighting": "constant"}, {"refresh_every": 4}, {"weighting": "none"}])
def test_wrong_programs_are_looked_at_only_where_they_count(tiny, config):
    model, calls = bound(tiny, **config), []
    model.get_input_embeddings().register_forward_hook(lambda *_: calls.append(1))
    model(**row(), objective_state={"shares": torch.zeros(3)})
    assert len(calls) == 1


def test_nothing_flows_through_the_weights(tiny):
    # The gradient is that of the same weights held fixed.
    model, batch = bound(tiny), row()
    model(**batch)["loss"].backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    with torch.no_grad():
        nll, known = observe(model, batch, auxiliary=True)
        share = margins(nll, known, 1.0)
    model_with = bound(tiny, refresh_every=2)
    model_with(**batch, objective_state={"shares": share})["loss"].backward()
    for name, parameter in model_with.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad)


@pytest.mark.parametrize("name", methods.names("adapters"))
def test_looking_at_wrong_programs_leaves_the_row_as_it_is_whatever_adapts_the_model(tiny, name):
    batch, losses = row(), []
    for objective in (part("objectives", "cross_entropy"), part("objectives", "fait", lines=0.0, tokens=0.0)):
        torch.manual_seed(0)
        parts = replace(composition(adapters=name), objective=objective)
        attached, _ = contract.composed(small.load(tiny), parts)
        with torch.no_grad():
            for parameter in attached.trainable.values():
                parameter.add_(0.01)
        loss = plain(attached.model).eval()(**batch)["loss"]  # dropout would draw other numbers
        loss.backward()
        losses.append([loss, *(p.grad for p in attached.trainable.values() if p.grad is not None)])
    torch.testing.assert_close(losses[0], losses[1])


def moment(step, auxiliary=lambda: iter(()), **state):
    return Moment(step, 10, 0, None, None, None, None, None, state, sequences=4, auxiliary=auxiliary)


def test_a_schedule_falls_from_its_highest_share_to_none():
    config = FaitConfig(weighting="schedule", highest=0.8)
    for step, share in ((0, 0.8), (3, 0.56), (5, 0.4)):  # of ten
        now = moment(step)
        on_step(now, config)
        assert now.state["share"] == [pytest.approx(share)]
    found = loss(NLL, tokens(state={"share": torch.tensor([0.4])}), config)
    torch.testing.assert_close(found, (torch.tensor([1, 1.4, 1.8, 1, 1, 1.8]) * NLL).sum())


def test_margins_are_kept_between_refreshes():
    wrong = wrong_programs([3.0], [CODE | CHAR], [0])
    config = FaitConfig(refresh_every=5)
    now = moment(5, lambda: iter([(NLL, tokens(auxiliary=wrong))]))
    on_step(now, config)
    assert now.state["shares"] == [0.0, 0.0, 0.0, pytest.approx(0.119203, abs=1e-6)]
    later = moment(6, shares=[0.5] * 4)
    on_step(later, config)
    assert later.state["shares"] == [0.5] * 4
    shares = torch.tensor([0.0, 0.25, 0.0, 0.5])  # sequences 3 and 1 are in this pack
    found = loss(NLL, tokens(state={"shares": shares}), config)
    torch.testing.assert_close(found, (torch.tensor([1, 1.5, 2, 1, 1, 1.5]) * NLL).sum())


def test_scattered_marks_are_as_many_in_the_same_program_and_always_the_same():
    known = tokens(state={"seed": torch.tensor([0])})
    found = scattered(known)
    for segment in (0, 1):
        mine = segment == SEGMENTS
        assert sorted(found[mine].tolist()) == sorted(MARKS[mine].tolist())
    assert found[3] == 0  # not of the program
    assert torch.equal(found, scattered(known))
    many = tokens(
        columns={"marks": torch.tensor([CODE | CHAR, *[CODE] * 49])},
        segments=torch.zeros(50, dtype=torch.long),
        numbers=torch.tensor([7]),
        state={"seed": torch.tensor([0])},
    )
    assert scattered(many)[0] == CODE
    other = replace(many, state={"seed": torch.tensor([1])})
    assert not torch.equal(scattered(other), scattered(many))


def test_scattered_marks_stay_in_their_program():
    one_sided = tokens(
        columns={"marks": torch.tensor([CODE | CHAR] * 20 + [CODE] * 20)},
        segments=torch.tensor([0] * 20 + [1] * 20),
        numbers=torch.tensor([3, 4]),
        state={"seed": torch.tensor([0])},
    )
    assert scattered(one_sided).tolist() == one_sided.columns["marks"].tolist()


def test_gradient_free_steps_need_margins_that_stand_still():
    fait, mezo = part("objectives", "fait"), part("optimizers", "mezo")
    with pytest.raises(ValueError, match=r"methods\.fait\.refresh_every"):
        compose.check(replace(composition(), objective=fait, optimizer=mezo))
    compose.check(replace(composition(), objective=part("objectives", "fait", refresh_every=2), optimizer=mezo))


def test_training_learns_marked_tokens_faster_than_without_weights(tiny, tmp_path):
    sequences = [small.paired(sequence) for sequence in small.sequences(16, seed=3)]
    plan = Training(pack_tokens=64, max_tokens=10_000, epochs=6, warmup=0.0, save_every=0)

    def differing_loss(weighting):
        chosen = replace(
            composition(objectives="fait"),
            objective=part("objectives", "fait", weighting=weighting, lines=0.0, tokens=4.0),
            optimizer=part("optimizers", "adamw", learning_rate=3e-3),
        )
        model, data = small.load(tiny).train(), engine.TrainData(sequences)
        outcome = engine.train(model, data, chosen, plan, small.FP32, tmp_path / weighting)
        with torch.no_grad():
            nll, known = observe(outcome.model.eval(), collate([Pack(tuple(sequences))], columns=SPEC.columns))
        return nll[(known.columns["marks"] & CHAR) > 0].mean()

    assert differing_loss("constant") < differing_loss("none") - 0.05
