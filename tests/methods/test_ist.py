"""IST draws the layers whose adapters train, and learns from suppressing others which can be left out.

Its update of the scores is held against numbers that the authors' callback gave (`data/ist.json`).
"""

import random
from collections import Counter
from dataclasses import replace

import pytest
import torch

from tasks.core.training import Moment, Probe
from tasks.core.weights.surgery import decoder_layers, layer_number, owners, plain
from tasks.engine.training import compose
from tasks.methods.selectors.ist import method as ist
from tasks.methods.selectors.ist.config import IstConfig
from tests.engine.training.test_train import LORA, PLAN, SEQUENCES, change, digest, train
from tests.methods import contract, deep
from tests.methods.contract import part
from tests.methods.official import frozen

SMALL = {"sets": 2, "period": 2, "trained": 0.5}
ADAPTER = "lora"
REFUSES = {"none": "adapter 'none' has none. Adapters that have: fourierft, lora, mhr, mola, mosl, vera"}
LINEAR = ["lora", "mola", "vera", "fourierft", "mhr", "mosl"]


def trainable(model, params):
    """The LoRA of the layers that train in one step: a share of them, one at least."""
    config = contract.part("adapters", "lora").config
    layers = decoder_layers(model)
    count = max(1, int(params.trained * len(layers)))
    linears = [module for module in layers[0].modules() if isinstance(module, torch.nn.Linear)]
    return count * sum(config.rank * (layer.in_features + layer.out_features) for layer in linears)


def attached(adapter="lora", layers=8, **config):
    """A LLaMA of eight layers with an adapter and IST, the optimizer, and what a moment of its training is."""
    parts = contract.composition(adapters=adapter)
    parts = replace(parts, selector=part("selectors", "ist", **{"sets": 3} | config))
    model, optimizer = contract.composed(deep.llama(layers), parts)
    for name in compose.linear(model, parts):
        torch.nn.init.normal_(model.trainable[name], std=0.3)

    def moment(step, state, probe=None):
        linear = compose.linear(model, parts)
        return Moment(step, 100, 0, model.model, optimizer, None, probe or contract.probe(), None, state, linear)

    return model, moment, parts.selector.config


def active(model):
    """The layers in which something trains."""
    return sorted({layer_number(name) for name in owners(model).values()})


def test_the_worked_example_of_the_card():
    scores = ist.updated([0.0] * 4, [[0, 1], [1, 2], [2, 3]], [1.0, 2.0, 3.0], rate=10.0)
    assert scores == pytest.approx([0.45886, 0.33637, -0.45886, -0.33637], abs=1e-5)


def test_scores_are_those_of_the_official_code():
    scores = [0.0] * 6
    for row in frozen("ist")["updates"]:
        scores = ist.updated(scores, row["sets"], row["losses"], rate=10.0)
        assert scores == pytest.approx(row["scores"], abs=1e-6)


def test_sets_are_different_and_drawn_by_the_scores():
    draw = random.Random(0)
    scores = [3.0, -3.0, 0.0, 0.0]
    counts = Counter(number for _ in range(2000) for number in ist.drawn(scores, 2, lambda score: score, draw))
    assert counts[0] > counts[2] > counts[1]
    assert abs(counts[2] - counts[3]) < 150
    for _ in range(50):
        sets = ist.different(scores, 2, 6, draw)
        assert sorted(sets) == [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]


def test_the_order_of_draws_is_without_replacement_by_weight():
    """Against the exact chance of the pair {0, 1}: w0/W · w1/(W − w0) + w1/W · w0/(W − w1)."""
    scores, draw = [1.0, -1.0, 0.0], random.Random(1)
    w = [1 / (1 + 2.718281828459045**-score) for score in scores]
    chance = w[0] / sum(w) * w[1] / (w[1] + w[2]) + w[1] / sum(w) * w[0] / (w[0] + w[2])
    count = sum(ist.drawn(scores, 2, lambda score: score, draw) == [0, 1] for _ in range(4000))
    assert count / 4000 == pytest.approx(chance, abs=0.025)


def test_a_layer_that_the_loss_needs_gets_the_lowest_score_and_is_drawn_most():
    """A toy loss that rises where layer 0 is suppressed."""
    draw, scores = random.Random(0), [0.0] * 8
    for _ in range(300):
        sets = ist.different(scores, 4, 3, draw)
        scores = ist.updated(scores, sets, [1.0 + (0 in chosen) for chosen in sets], rate=10.0)
    assert min(scores) == scores[0]
    counts = Counter(number for _ in range(500) for number in ist.drawn(scores, 2, lambda score: -score, draw))
    assert counts.most_common(1)[0][0] == 0


@pytest.mark.parametrize("adapter", LINEAR)
def test_suppression_scales_the_update_of_its_layers_and_leaves_no_trace(adapter):
    model, moment, config = attached(adapter, period=1)
    before = {name: p.detach().clone() for name, p in model.model.named_parameters()}
    modes = [module.training for module in model.model.modules()]
    seen = []

    def losses(wrapped, batch):
        seen.append({name: p.detach().clone() for name, p in wrapped.named_parameters()})
        assert not wrapped.training
        return torch.tensor([float(len(seen))])

    state = {}
    ist.on_step(moment(1, state, Probe([contract.batch()], losses, pytest.fail)), config)
    after = dict(model.model.named_parameters())
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert [module.training for module in model.model.modules()] == modes
    assert len(seen) == 3
    for weights in seen:
        changed = {name for name, tensor in weights.items() if not torch.equal(tensor, before[name])}
        assert changed <= moment(1, {}).linear
        owner = owners_of_all(model)
        assert len({layer_number(owner[name]) for name in changed}) == 4
        assert all(torch.equal(weights[name], before[name] * 0.25) for name in changed)
    assert any(state["unimportance"])


def owners_of_all(model):
    """The layer of every parameter that may train, also of one that rests now."""
    resting = [p for p in model.trainable.values() if not p.requires_grad]
    for parameter in resting:
        parameter.requires_grad_(True)
    owner = owners(model.model)
    for parameter in resting:
        parameter.requires_grad_(False)
    return owner


def test_without_suppression_layers_are_drawn_uniformly():
    model, moment, config = attached(period=20, factor=1.0, trained=0.25)
    state, counts = {}, Counter()
    for step in range(400):
        ist.on_step(moment(step, state), config)
        if (
            step % 20 == 0
        ):  # the steps that look at the scores; the others draw alone, and to ask what trains takes longer than that
            # The loss of the same weights may differ in its last bit from pass to pass.
            assert state["unimportance"] == pytest.approx([0.0] * 8, abs=1e-12)
            assert active(model.model) == state["layers"]
        counts.update(state["layers"])
        assert len(state["layers"]) == 2
    assert max(counts.values()) - min(counts.values()) < 60
    assert len(counts) == 8


def test_layers_that_can_be_spared_train_less_often_and_are_suppressed_more_often():
    """By scores that are far apart, of which none moves: 0 and 1 matter, and 6 and 7 can be spared."""
    model, moment, config = attached(period=1, trained=0.25, suppressed=0.25, rate=1e-9)
    scores = [-6.0, -6.0, 0.0, 0.0, 0.0, 0.0, 6.0, 6.0]
    trained, suppressed = Counter(), Counter()

    owner = owners_of_all(model)
    before = {
        layer_number(owner[name]): (name, model.trainable[name].detach().clone()) for name in moment(1, {}).linear
    }

    def losses(wrapped, batch):
        suppressed.update(n for n, (name, kept) in before.items() if not torch.equal(model.trainable[name], kept))
        return torch.tensor([1.0])

    for step in range(1, 41):
        state = {"unimportance": scores}
        ist.on_step(moment(step, state, Probe([contract.batch()], losses, pytest.fail)), config)
        trained.update(state["layers"])
    for counts, often, seldom in ((trained, (0, 1), (6, 7)), (suppressed, (6, 7), (0, 1))):
        assert min(counts[number] for number in often) > 5 * max(counts[number] for number in seldom)


@pytest.mark.parametrize("adapter", LINEAR)
def test_only_drawn_layers_have_a_gradient_and_they_change(adapter):
    model, moment, config = attached(adapter)
    sets = []
    for step in range(6):
        ist.on_step(moment(step, {}), config)
        model.model.train()
        plain(model.model)(**contract.batch())["loss"].backward()
        graded = {name for name, p in model.model.named_parameters() if p.grad is not None}
        assert graded
        assert all(model.trainable[name].requires_grad for name in graded)
        sets.append(active(model.model))
    assert len({tuple(one) for one in sets}) > 1


def test_all_layers_at_once_are_the_adapter_alone(tiny, tmp_path):
    plan, few = change(PLAN, epochs=2), SEQUENCES[:12]
    alone, _ = train(tiny, tmp_path / "alone", LORA, plan, few)
    parts = replace(LORA, selector=part("selectors", "ist", trained=1.0, sets=2, period=2))
    ours, steps = train(tiny, tmp_path / "ist", parts, plan, few)
    assert len(steps) > 2, "the scores were looked at"
    assert digest(ours, tmp_path / "a") == digest(alone, tmp_path / "b")


@pytest.mark.parametrize("adapter", ["dora", "ia3", "oft", "loldu", "dept"])
def test_adapters_whose_update_is_linear_in_nothing_are_refused_by_name(adapter):
    with pytest.raises(ValueError, match=f"adapter '{adapter}' has none. Adapters that have: .*fourierft, .*lora"):
        compose.check(contract.composition(adapters=adapter, selectors="ist"))


def test_too_few_layers_to_compare_are_refused():
    """Those count whose updates are scaled; others may train too."""
    _, moment, config = attached(layers=8, sets=3)
    few = frozenset(name for name in moment(0, {}).linear if layer_number(name) < 2)
    with pytest.raises(ValueError, match=r"ist\.sets is 3, and 2 layers with an adapter have only 2 sets of 1"):
        ist.on_step(replace(moment(0, {}), linear=few), config)


@pytest.mark.parametrize("config", [{"trained": 0.0}, {"trained": 1.5}, {"suppressed": 1.0}, {"factor": 2.0}])
def test_shares_that_cannot_be_are_refused(config):
    with pytest.raises(ValueError, match=next(iter(config))):
        IstConfig(**config)
