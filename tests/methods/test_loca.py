"""LoCA learns coefficients of a cosine transform, and where in the spectrum they stand.

Updates and gradients are held against numbers of the authors' functions (`data/loca.json`) and against brute force: a coefficient is moved
by one, and half the difference of the loss is its place's gradient.
"""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import scipy.fft
import torch
from torch import nn

from tasks.core.training import Moment, Start
from tasks.core.weights import surgery
from tasks.engine.forward import token_losses
from tasks.engine.training import compose, store
from tasks.io.weights import checkpoints
from tasks.methods.adapters.loca import method as loca
from tasks.methods.adapters.loca.config import LocaConfig
from tests import tiny as small
from tests.methods import contract
from tests.methods.official import frozen, same, wave

SMALL = {"n": 12, "coefficient_steps": 1, "place_steps": 1, "place_share": 1.0}
SHAPES = {"12x8": (12, 8), "7x9": (7, 9)}


def trainable(model, params):
    """A coefficient and two numbers of its place, for every layer."""
    return 3 * params.n * len(surgery.linears(model, params.targets))


def layer(out, into, places, coefficients, **config):
    """A layer of weight 0 in float64 with these coefficients, whose output for the unit matrix is its update."""
    base = nn.Linear(into, out, bias=False, dtype=torch.float64)
    base.weight.data.zero_()
    made = loca.LocaLinear(base, LocaConfig(n=len(coefficients), **config), *places)
    made.a_K.data.copy_(coefficients)
    return made


def update(made):
    """C_O^T S C_I times alpha."""
    return made(torch.eye(made.base.in_features, dtype=torch.float64)).T


@pytest.mark.parametrize("size", [1, 2, 7, 64])
def test_waves_are_the_orthonormal_cosine_transform(size):
    c_NN = loca.waves(torch.arange(size), loca.cosines(size))
    unit = torch.eye(size, dtype=torch.float64)
    torch.testing.assert_close(c_NN @ c_NN.T, unit)
    torch.testing.assert_close(c_NN, torch.from_numpy(scipy.fft.dct(unit.numpy(), axis=0, norm="ortho")))


def test_cosines_of_a_large_layer_are_exact_in_single_precision():
    rows = torch.tensor([0, 1, 8191, 14335])
    exact = loca.waves(rows, loca.cosines(14336))
    torch.testing.assert_close(loca.waves(rows, loca.cosines(14336).float()).double(), exact, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_updates_and_gradients_are_those_of_the_official_functions(shape):
    """Two coefficients stand at one place there, one on the first and one beyond the last; some gradients of places are above 1."""
    out, into = SHAPES[shape]
    places = wave(2, 9, phase=2.0).abs()
    places[:, 3], places[:, 4], places[:, 5] = places[:, 1], 0.0, 0.9995
    made = layer(out, into, places, wave(9, phase=0.5), alpha=1.5)
    found = update(made)
    (found * 2 * wave(out, into, phase=3.0)).sum().backward()
    gradients = {"a": made.a_K.grad, "places": torch.stack([made.row_K.grad, made.column_K.grad])}
    same({"update": found, **gradients}, frozen("loca")[shape], rtol=1e-5, atol=1e-5)


def brute_force(made, slope):
    """The gradients of a linear loss: half its difference between a coefficient's neighbours, for its row and for its column."""
    (row_K, column_K), (out, into) = made.indices(), slope.shape
    waves = [loca.waves(torch.arange(size), loca.cosines(size)) for size in (out, into)]

    def loss(k, row, column):
        spectrum = torch.zeros(out, into, dtype=torch.float64)
        spectrum[row.clamp(0, out - 1), column.clamp(0, into - 1)] = made.a_K[k].detach()
        return (slope * (waves[0].T @ spectrum @ waves[1])).sum()

    by_row = [(loss(k, r + 1, c) - loss(k, r - 1, c)) / 2 for k, (r, c) in enumerate(zip(row_K, column_K, strict=True))]
    by_column = [
        (loss(k, r, c + 1) - loss(k, r, c - 1)) / 2 for k, (r, c) in enumerate(zip(row_K, column_K, strict=True))
    ]
    return torch.stack(by_row), torch.stack(by_column)


def test_gradients_of_places_are_half_the_difference_of_neighbours():
    draw = torch.Generator().manual_seed(3)
    places = 0.99 * torch.rand(2, 40, generator=draw, dtype=torch.float64)
    places[:, 0], places[0, 1] = 0.0, 0.999  # a corner, and the last row
    made = layer(20, 15, places, 0.1 * torch.randn(40, generator=draw, dtype=torch.float64))
    slope = torch.randn(20, 15, generator=draw, dtype=torch.float64)
    (update(made) * slope).sum().backward()
    by_row, by_column = brute_force(made, slope)
    assert max(by_row.abs().max(), by_column.abs().max()) < 1
    torch.testing.assert_close(made.row_K.grad, 19 * by_row)
    torch.testing.assert_close(made.column_K.grad, 14 * by_column)


def test_a_gradient_is_clipped_before_it_is_spread_over_the_layer():
    places = torch.tensor([[0.3, 0.6], [0.4, 0.7]], dtype=torch.float64)
    made = layer(20, 15, places, torch.tensor([1e3, -1e3]))
    (update(made) * wave(20, 15)).sum().backward()
    torch.testing.assert_close(made.row_K.grad.abs(), torch.full((2,), 19.0, dtype=torch.float64))
    torch.testing.assert_close(made.column_K.grad.abs(), torch.full((2,), 14.0, dtype=torch.float64))


def test_places_out_of_range_have_no_gradient_and_stay_in_the_layer():
    places = torch.tensor([[-0.2, 1.0], [0.5, 0.5]], dtype=torch.float64)
    made = layer(20, 15, places, torch.ones(2))
    update(made).sum().backward()
    assert made.row_K.grad.tolist() == [0, 0]
    assert made.indices()[0].tolist() == [0, 19]


def test_places_of_coefficients_that_are_zero_have_no_gradient(tiny):
    model = contract.attached(contract.part("adapters", "loca"), contract.model("llama", tiny))
    model(**contract.batch())["loss"].backward()
    for made in loca.adapted(model).values():
        assert made.a_K.grad.abs().min() > 0
        assert made.row_K.grad.abs().max() == made.column_K.grad.abs().max() == 0


def toy(config, rate=0.05):
    """One layer of 10 × 6 with an optimizer over its three vectors."""
    base = nn.Linear(6, 10).requires_grad_(False)
    model = nn.ModuleDict({"q_proj": loca.LocaLinear(base, config, *torch.rand(2, config.n))})
    return model, torch.optim.Adam(loca.adapted(model)["q_proj"].parameters(), lr=rate)


def moment(model, optimizer, step, steps):
    return Moment(step, steps, 0, model, optimizer, None, None, None)


def test_over_60_steps_a_trains_then_the_places_until_their_share_is_over():
    """The schedule of the paper, counted in steps, whatever the number of forward passes in each."""
    torch.manual_seed(0)
    config = LocaConfig(n=5, place_share=0.75)
    model, optimizer = toy(config)
    made = model["q_proj"]
    turns = []
    for step in range(60):
        before = {name: tensor.clone() for name, tensor in made.state_dict().items()}
        loca.on_step(moment(model, optimizer, step, 60), config)
        for number in range(3):
            made(wave(4, 6, phase=step + number, dtype=torch.float32)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        turns.append({name for name, tensor in made.state_dict().items() if not torch.equal(tensor, before[name])})
    places = [10 <= step < 30 or 40 <= step < 45 for step in range(60)]
    assert turns == [{"row_K", "column_K"} if learn else {"a_K"} for learn in places]


def test_in_a_short_training_places_learn_for_one_period():
    assert [step for step in range(106) if loca.places_learn(step, 106, LocaConfig())] == list(range(10, 30))
    assert sum(loca.places_learn(step, 3000, LocaConfig()) for step in range(3000)) == 200


def test_a_training_too_short_for_places_is_refused():
    model, optimizer = toy(LocaConfig(n=5))
    with pytest.raises(ValueError, match=r"has 10 steps, and places learn after the first 10\. .*places: frozen"):
        loca.on_step(moment(model, optimizer, 0, 10), LocaConfig(n=5))
    loca.on_step(moment(model, optimizer, 0, 11), LocaConfig(n=5))
    loca.on_step(moment(model, optimizer, 0, 10), LocaConfig(n=5, places="frozen"))


def fitted(target, places, steps=200):
    """The distance to a matrix after so many steps, in parts of its size."""
    torch.manual_seed(0)
    config = LocaConfig(n=40, places=places, place_share=0.5)
    model = nn.ModuleDict({"q_proj": nn.Linear(32, 32, bias=False)})
    model["q_proj"].weight.data.zero_()
    made = model["q_proj"] = loca.LocaLinear(model["q_proj"].requires_grad_(False), config, *torch.rand(2, config.n))
    groups = [{"params": [made.a_K], "lr": 5e-2}]
    if places == "learned":
        groups.append({"params": [made.row_K, made.column_K], "lr": 5e-3})
    optimizer = torch.optim.Adam(groups)
    for step in range(steps):
        loca.on_step(moment(model, optimizer, step, steps), config)
        optimizer.zero_grad()
        (made(torch.eye(32)).T - target).square().sum().backward()
        optimizer.step()
    return float((made(torch.eye(32)).T - target).detach().norm() / target.norm())


def test_learned_places_move_to_where_the_spectrum_is():
    """The spectrum of the matrix is a hill, which places climb: 40 of 1,024 that were drawn hold next to nothing of it."""
    index = torch.arange(32.0)
    hill = torch.exp(-((index[:, None] - 12) ** 2 + (index - 18) ** 2) / 8)
    c_NN = loca.waves(torch.arange(32), loca.cosines(32).float())
    drawn, learned = (fitted(c_NN.T @ hill @ c_NN, places) for places in ("frozen", "learned"))
    assert learned < 0.8 * drawn


def test_a_lora_of_the_fewest_frequencies_is_the_update():
    """Two rows of the spectrum with five coefficients in five columns are of rank 2; and the other way round."""
    few, many = torch.tensor([0.2, 0.2, 0.7, 0.7, 0.7]), torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9])
    for places in ((few, many), (many, few)):
        made = layer(20, 15, places, wave(5), alpha=3.0)
        change = made.change()
        assert len(change.A_RI) == change.B_OR.shape[1] == 2
        torch.testing.assert_close(change.B_OR @ change.A_RI, update(made).detach())


def test_the_lora_beside_it_has_the_rank_of_the_highest_layer(tiny):
    model = contract.attached(contract.part("adapters", "loca", n=300), contract.model("qwen2", tiny))
    for made in loca.adapted(model).values():
        made.a_K.data.normal_()
    changes = loca.finish(model)
    assert {len(change.A_RI) for change in changes.values()} == {
        max(min(index.unique().numel() for index in made.indices()) for made in loca.adapted(model).values())
    }
    x = wave(4, 48, dtype=torch.float32)
    for name in ("model.layers.0.self_attn.k_proj", "model.layers.1.mlp.up_proj"):
        made, (a_RI, b_OR) = model.get_submodule(name), changes[name]
        torch.testing.assert_close(made(x) - made.base(x), x @ a_RI.T @ b_OR.T, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("places", ["learned", "frozen"])
def test_a_saved_adapter_has_its_places_and_loads(tiny, tmp_path, places):
    adapter = contract.part("adapters", "loca", **SMALL, places=places)
    parts = replace(contract.composition(), adapter=adapter)
    attached, optimizer = contract.composed(checkpoints.load(tiny)[0], parts)
    moved = contract.steps(attached, optimizer, parts)
    assert {name.rpartition(".")[2] for name in moved} == (
        {"a_K", "row_K", "column_K"} if places == "learned" else {"a_K"}
    )
    store.save(attached, parts, None, tmp_path / "saved")
    names = {key.rpartition(".")[2] for key in checkpoints.read_adapter(tmp_path / "saved")}
    assert names == {"a_K", "row_K", "column_K"}
    loaded, _ = checkpoints.load(tmp_path / "saved", tiny)
    torch.testing.assert_close(contract.losses(loaded), contract.losses(attached.model), rtol=1e-4, atol=1e-5)


def test_places_are_drawn_from_the_seed_and_taken_from_a_saved_adapter():
    def rows(start):
        return loca.attach(small.qwen2(), LocaConfig(**SMALL), start).model.layers[0].mlp.up_proj.row_K

    assert torch.equal(rows(Start(seed=1)), rows(Start(seed=1)))
    assert not torch.equal(rows(Start(seed=1)), rows(Start(seed=2)))
    saved = torch.full((SMALL["n"],), 0.25)
    assert torch.equal(rows(Start(tensors={"model.layers.0.mlp.up_proj.row_K": saved})), saved)


def test_it_says_what_share_of_a_layers_coefficients_has_moved():
    model, _ = toy(LocaConfig(n=4))
    made = model["q_proj"]
    with torch.no_grad():
        made.row_K.copy_(torch.tensor([0.0, 0.5, 0.5, 0.5]))
        made.column_K.copy_(torch.tensor([0.5, 0.5, 0.5, 0.45]))
        made.first = made.indices()
        made.row_K += torch.tensor([0.01, 0.2, 0.0, 0.0])
        made.column_K += torch.tensor([0.0, 0.2, 0.3, 0.01])
    assert loca.facts(model) == {"moved": {"q_proj": 0.5}}


def test_layers_that_a_selector_does_not_choose_have_no_turn(tiny):
    model = contract.attached(contract.part("adapters", "loca"), contract.model("llama", tiny))
    first, *others = loca.adapted(model).values()
    for made in others:
        made.requires_grad_(False)
    optimizer = SimpleNamespace(param_groups=[{"params": list(first.parameters())}])
    for step, trains in enumerate(({"a_K"}, {"row_K", "column_K"})):
        loca.on_step(moment(model, optimizer, step, 2), LocaConfig(**SMALL))
        assert {name for name, p in first.named_parameters() if p.requires_grad} == trains
        assert not any(p.requires_grad for made in others for p in made.parameters())


@pytest.mark.parametrize("name", ["ist", "lisa"])
def test_a_selector_that_says_what_trains_in_a_step_is_refused(name):
    with pytest.raises(ValueError, match=rf"adapter 'loca' and selector '{name}' both say before each step"):
        compose.check(contract.composition(adapters="loca", selectors=name))


def test_more_coefficients_than_a_layer_has_numbers_are_refused_by_its_name(tiny):
    with pytest.raises(ValueError, match=r"n 2049 is above .*k_proj, 32 × 64: take at most 2048\."):
        loca.attach(small.load(tiny), LocaConfig(n=2049), Start())


@pytest.mark.parametrize(
    "wrong",
    [
        {"n": 0},
        {"alpha": 0},
        {"dropout": 1},
        {"place_rate": 0},
        {"place_share": 1.1},
        {"coefficient_steps": 0},
        {"place_steps": 0},
        {"places": "drawn"},
    ],
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LocaConfig(**wrong)


def test_a_recurrent_layer_trains_though_it_asks_for_the_weight():
    sizes = {"num_heads": 4, "head_dim": 16, "n_groups": 1, "state_size": 8}
    model = contract.attached(contract.part("adapters", "loca"), small.family("mamba2", vocab_size=259, **sizes))
    for layer in surgery.layers_of(model, loca.LocaLinear).values():
        torch.nn.init.normal_(layer.a_K)
    token_losses(model.train(), contract.batch()).sum().backward()
    assert all(layer.a_K.grad.any() for layer in surgery.layers_of(model, loca.LocaLinear).values())
    with torch.no_grad():
        layer = next(iter(surgery.layers_of(model.eval(), loca.LocaLinear).values()))
        x = torch.randn(3, layer.base.in_features)
        torch.testing.assert_close(layer(x), torch.nn.functional.linear(x, layer.weight, layer.bias))
        assert not torch.equal(layer.weight, layer.base.weight)
