"""MoSL trains a drawn part of a matrix in each look and serves the mean of the parts; its card's checks 1 to 7.

How a matrix is cut and what is merged are held against numbers of the authors' code (`data/mosl.json`).
"""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from flows.experiments import recipes
from tasks.core.training import Moment
from tasks.core.weights import surgery
from tasks.core.weights.row import Passage, Row, listens
from tasks.engine.packing import Pack, collate
from tasks.engine.training import compose
from tasks.methods.adapters._split import Draws, Split, divide, on_step
from tasks.methods.adapters.mosl.config import MoslConfig
from tasks.methods.adapters.mosl.method import MoslLinear, adapted
from tests import tiny as small
from tests.methods import contract
from tests.methods.official import frozen, same, wave

SMALL = {"rank": 4, "parts": 2, "dropout": 0.0}
STEPS = 12


def trainable(model, config):
    """The sum over all adapted layers of r (in + out), whatever the number of parts."""
    return sum(config.rank * sum(layer.weight.shape) for layer in surgery.linears(model, config.targets).values())


@pytest.mark.parametrize(("size", "parts"), [((6, 8), 4), ((5, 7), 3)])
def test_a_matrix_is_cut_as_the_authors_cut_it(size, parts):
    expected = frozen("mosl")["parts"]["{}x{} in {}".format(*size, parts)]
    assert divide(wave(*size), parts).tolist() == expected


@pytest.mark.parametrize("parts", [1, 2, 3, 7])
def test_parts_cover_a_matrix_and_are_of_one_size_but_for_one(parts):
    sizes = divide(torch.rand(5, 6), parts).flatten().bincount(minlength=parts)
    assert sizes.sum() == 30
    assert sizes.max() - sizes.min() <= 1


def split(parts=3, start=None, passage=None, bias=False):
    """A matrix of 6 × 4 in parts, of the authors' scores."""
    draws = Draws(0, passage or Passage())
    made = Split(torch.zeros(6, 4) if start is None else start, parts, bias=bias, draws=draws, name="a").double()
    made.part_OI.copy_(divide(wave(6, 4, phase=0.5), parts))
    return made


def test_after_a_step_of_each_part_the_mean_is_what_the_authors_merge():
    made, expected = split(), frozen("mosl")
    for part in range(3):
        x, y = wave(5, 4, phase=1.0 + part), wave(5, 6, phase=2.0 + part)
        (x @ made.weight(part).T - y).square().sum().backward()
        assert [change.grad is not None for change in made.change] == [number == part for number in range(3)]
        with torch.no_grad():
            made.change[part] -= 0.1 * made.change[part].grad
            made.change[part].grad = None
        same(made.weight(part), expected["copies"][part])
    same(made.weight(None), expected["merged"])


@torch.no_grad()
def test_the_mean_over_parts_of_what_a_step_computes_is_what_is_served():
    made = split(start=wave(6, 4, phase=3.0), bias=True)
    for parameter in made.parameters():
        nn.init.normal_(parameter)
    x = wave(5, 4)
    outputs = [x @ made.weight(part).T + made.offset(part) for part in range(3)]
    torch.testing.assert_close(torch.stack(outputs).mean(dim=0), made(x))


def row(look=0, training=True):
    return Row(torch.zeros(1), None, look, training)


def test_what_is_drawn_follows_from_seed_step_matrix_and_look_alone():
    passage = Passage()
    draws = Draws(1, passage)

    def drawn():
        return [draws.part(name, 4) for name in map(str, range(40))]

    passage.row = row()
    first = drawn()
    assert set(first) == {0, 1, 2, 3}
    assert drawn() == first
    passage.row = row(look=1)
    second = drawn()
    draws.step = 1
    third = drawn()
    draws.seed = 2
    assert len({tuple(each) for each in (first, second, third, drawn())}) == 4
    passage.row = row(training=False)
    assert set(drawn()) == {None}
    passage.row = None
    assert set(drawn()) == {None}


def bound(tiny, objective="consistency", **settings):
    """A model that trains in parts under an objective, its parts, and a row."""
    chosen = contract.composition(adapters="mosl", objectives=objective)
    chosen = replace(chosen, adapter=contract.part("adapters", "mosl", **settings))
    attached, _ = contract.composed(small.load(tiny), chosen)
    return attached, collate([Pack(tuple(small.sequences(4, seed=3)))])


def test_a_step_gives_gradients_to_the_parts_that_its_looks_have_drawn_and_to_no_other(tiny):
    attached, batch = bound(tiny, parts=4)
    attached.model.train()(**batch)["loss"].backward()
    for name, layer in adapted(attached.model).items():
        matrix, draws = layer.pair.up, layer.pair.up.draws
        drawn = set()
        for look in (0, 1):
            draws.passage.row = row(look)
            drawn.add(draws.part(f"{name}.up", 4))
        assert {number for number, change in enumerate(matrix.change) if change.grad is not None} == drawn
        assert layer.pair.down.W_OI.grad is not None


def test_a_new_step_draws_anew(tiny):
    attached, _ = bound(tiny)
    moment = Moment(7, 9, 3, attached.model, None, None, contract.probe(), contract.probe())
    on_step(moment, None)
    assert {(layer.pair.up.draws.step, layer.pair.up.draws.seed) for layer in adapted(attached.model).values()} == {
        (7, 3)
    }


def test_looks_differ_by_what_is_drawn_and_agree_where_nothing_is(tiny):
    def apart(**settings):
        attached, batch = bound(tiny, **settings)
        with torch.no_grad():
            for parameter in attached.trainable.values():
                nn.init.normal_(parameter, std=0.5)
            plain = attached.model.train()(**batch)["loss"]
            model, _ = bound(tiny, "cross_entropy", **settings)
            model.model.load_state_dict(attached.model.state_dict())
            return float(plain - model.model.train()(**batch)["loss"])

    assert apart(parts=4) > 1e-3
    assert abs(apart(parts=1)) < 1e-6


def test_one_part_is_a_lora_step_by_step(tiny):
    plain = contract.composition()
    mine = replace(plain, adapter=contract.part("adapters", "mosl", parts=1))
    rank = {"rank": SMALL["rank"], "alpha": SMALL["rank"]}  # which scales the change by 1
    theirs = replace(plain, adapter=contract.part("adapters", "lora", targets=mine.adapter.config.targets, **rank))
    ours, lora = (contract.composed(small.load(tiny), parts) for parts in (mine, theirs))
    layers = adapted(ours[0].model)
    matrices = {
        (name, side): getattr(layer.pair, side).W_OI for name, layer in layers.items() for side in ("down", "up")
    }
    assert {id(p) for p in ours[0].trainable.values()} == {id(p) for p in matrices.values()}
    inner = dict(lora[0].model.get_base_model().named_modules())
    lora_matrices = {
        (name, side): getattr(inner[name], f"lora_{'A' if side == 'down' else 'B'}")["default"].weight
        for name, side in matrices
    }
    assert {id(p) for p in lora[0].trainable.values()} == {id(p) for p in lora_matrices.values()}
    with torch.no_grad():
        for place, matrix in matrices.items():
            lora_matrices[place].copy_(matrix)
    start = {place: matrix.detach().clone() for place, matrix in matrices.items()}
    contract.steps(*ours, mine, count=3)
    contract.steps(*lora, theirs, count=3)
    for place, matrix in matrices.items():
        torch.testing.assert_close(matrix, lora_matrices[place], rtol=1e-3, atol=1e-5, msg=" ".join(place))
        assert (matrix - start[place]).abs().max() > 1e-4, "nothing was trained"


@pytest.mark.parametrize(("share", "kinds"), [("down", "DS"), ("up", "SD"), ("none", "SS")])
def test_share_says_which_matrix_is_not_split(share, kinds):
    layer = MoslLinear(nn.Linear(8, 6), MoslConfig(**SMALL | {"share": share}), Draws(0, Passage()), "l")
    assert [type(matrix).__name__[0] for matrix in (layer.pair.down, layer.pair.up)] == list(kinds)
    assert not layer.pair.up.weight(None).any()
    assert layer.pair.down.weight(None).any()


def test_a_merged_model_is_no_longer_told_of_rows(tiny):
    attached, _ = contract.composed(small.load(tiny), contract.composition(adapters="mosl"))
    assert listens(attached.model)
    assert not listens(compose.merge(attached.model, contract.composition(adapters="mosl")))


def test_a_rank_above_a_layer_is_refused(tiny):
    with pytest.raises(ValueError, match=r"rank 65 is above model\.layers\."):
        bound(tiny, rank=65)


def test_the_recipes_control_differs_in_nothing_but_parts():
    _, recipe = recipes.read([str(Path(__file__).resolve().parents[2] / "params/compare/mosl.yaml")])
    ours, control = (dict(recipe.compositions[name]) for name in ("mosl", "plain"))
    assert ours.pop("methods")["mosl"] | {"parts": 1} == control.pop("methods")["mosl"] | {"parts": 1}
    assert ours == control
