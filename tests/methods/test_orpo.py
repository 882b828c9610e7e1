"""ORPO is fine-tuning plus an odds ratio, which is TRL's on the same pairs."""

import torch

from tasks.methods.objectives.orpo.method import log_odds
from tests.methods import preferences
from tests.methods.official import frozen


def test_its_odds_ratio_is_trls_and_the_rest_is_the_mean_loss_of_the_better_answers(tmp_path):
    trl = frozen("orpo")
    weight = trl["settings"]["weight"]
    whole = preferences.loss("orpo", preferences.pairs(), tmp_path, {"weight": weight})
    tuning = preferences.loss("cross_entropy", preferences.pairs(), tmp_path, {})
    preferences.same(whole - tuning, trl["odds"])


def test_with_the_prompts_among_the_tuned_tokens_the_whole_loss_is_trls(tmp_path):
    """TRL's first term is over the prompt too, ours over the answer: with that term of TRL's the sum is TRL's."""
    trl = frozen("orpo")
    weight = trl["settings"]["weight"]
    orpo = preferences.loss("orpo", preferences.pairs(), tmp_path, {"weight": weight})
    answers = preferences.loss("cross_entropy", preferences.pairs(), tmp_path, {})
    texts = [preferences.sequence(prompt[:1], [*prompt[1:], *better]) for prompt, better, _ in preferences.PAIRS]
    prompts_too = preferences.loss("cross_entropy", texts, tmp_path, {})
    preferences.same(prompts_too + (orpo - answers), trl["loss"])
    assert abs(orpo.item() - trl["loss"]) > 1e-3, "the two conventions differ on these pairs"


def test_texts_that_train_beside_the_pairs_leave_its_odds_ratio_as_it_is(tmp_path):
    trl = frozen("orpo")
    texts = [preferences.sequence([n], [5, 6, 7]) for n in range(9)]
    whole = preferences.loss("orpo", [*preferences.pairs(), *texts], tmp_path, {"weight": trl["settings"]["weight"]})
    tuning = preferences.loss("cross_entropy", [*preferences.pairs(), *texts], tmp_path, {})
    preferences.same(whole - tuning, trl["odds"])


def test_an_answer_known_by_heart_has_finite_log_odds_and_a_gradient():
    known = torch.zeros(1, requires_grad=True)  # p rounds to 1
    odds = log_odds(known)
    (gradient,) = torch.autograd.grad(-torch.nn.functional.logsigmoid(odds), known)
    assert torch.isfinite(odds)
    assert torch.isfinite(gradient)
    assert odds > log_odds(torch.tensor([-1e-6]))


def test_log_odds_are_finite_where_an_answer_is_unlikely_and_grow_with_its_probability():
    odds = log_odds(torch.tensor([-200.0, -1.0, -1e-6]))
    assert torch.isfinite(odds).all()
    assert (odds.diff() > 0).all()
    torch.testing.assert_close(log_odds(torch.tensor(0.5).log()), torch.tensor(0.0))
