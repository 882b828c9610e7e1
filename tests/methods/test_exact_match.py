"""Exact match is the share of examples of which every trained token is the model's first choice."""

import pytest
import torch

from tasks.core.sequences import Encoded
from tasks.core.training import Training
from tasks.engine.forward import bind_loss
from tasks.engine.packing import Pack, collate
from tasks.engine.training import compose
from tasks.methods.objectives import Tokens
from tasks.methods.objectives.exact_match.config import ExactMatchConfig
from tasks.methods.objectives.exact_match.method import loss
from tests import tiny as small
from tests.methods.contract import composition, model, part, probe


def test_one_wrong_token_fails_its_example_and_no_other():
    # Four examples of a step of 12 trained tokens and 6 examples, two of which stand in another pack.
    tokens = Tokens(
        weights=torch.tensor([1.0, 0.5, 2.0, 1.0, 1.0, 1.0, 1.0]),
        segments=torch.tensor([0, 0, 1, 1, 2, 3, 3]),
        tasks=torch.tensor([0, 0, 1, 1, 0, 0, 0]),
        task_tokens=torch.tensor([9, 3]),
        task_examples=torch.tensor([4, 2]),
        numbers=torch.arange(4),
    )
    hits = torch.tensor([1.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0])
    assert loss(hits, tokens, ExactMatchConfig()).item() == pytest.approx(12 * 2 / 6)
    assert loss(torch.ones(7), tokens, ExactMatchConfig()).item() == 0.0


def test_it_is_one_minus_the_accuracy_of_greedy_answers(tiny):
    plain, bound = small.load(tiny).eval(), small.load(tiny).eval()
    bind_loss(bound, part("objectives", "exact_match"), part("adapters", "none"))
    prompts = [[5, number, 9] for number in range(12)]
    told = []
    for number, prompt in enumerate(prompts):
        greedy = plain.generate(torch.tensor([prompt]), max_new_tokens=3, min_new_tokens=3, do_sample=False)[0].tolist()
        if number % 3 == 0:
            greedy[-1] = (greedy[-1] + 1) % 200  # one token that the model would not write
        told.append(greedy)
    rows = [Encoded(str(number), ids, [0.0] * 3 + [1.0] * 3) for number, ids in enumerate(told)]
    found = bound(**collate([Pack(tuple(rows))]))["loss"]
    assert found.item() == pytest.approx(4 / 12)
    assert not found.requires_grad


def test_an_optimizer_that_needs_a_gradient_is_refused_by_name(tiny):
    parts = composition(objectives="exact_match")
    with pytest.raises(ValueError, match=r"'exact_match' is a score without gradient, and optimizer 'adamw'.*mezo"):
        compose.compose(model("llama", tiny), parts, probe(), seed=0)


def test_two_words_of_settings_compose_it_with_mezo(tiny):
    names = Training(adapter="none", optimizer="mezo", objective="exact_match")
    parts = compose.read(names, {"none": {}, "all": {}, "mezo": {"eps": 0.01}, "exact_match": {}})
    attached = compose.compose(model("llama", tiny), parts, probe(), seed=0)
    optimizer = parts.optimizer.method.make(compose.groups(attached, parts), parts.optimizer.config, 0)
    row = collate([Pack(tuple(small.sequences(3)))])
    assert 0 <= optimizer.estimate(lambda: attached.model(**row)["loss"]) <= 1
    assert parts.names["objective"] == "exact_match"
