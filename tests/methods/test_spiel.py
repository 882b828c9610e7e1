"""SpIEL drops the weakest entries, grows those of large gradients, and gives these an optimizer's state.

Choices, seeds and bounds are held against numbers of the authors' code (`data/spiel.json`).
"""

from dataclasses import replace

import pytest
import torch
from torch import nn

from tasks.core.training import Moment
from tasks.core.weights import deltas
from tasks.core.weights.deltas import DeltaLinear
from tasks.core.weights.surgery import ALL_LINEAR, linears
from tasks.engine.forward import token_losses, use_packed_attention
from tasks.engine.training import compose
from tasks.methods.selectors.spiel.config import SpielConfig
from tasks.methods.selectors.spiel.memory import MEMORIES, memory_of
from tasks.methods.selectors.spiel.method import choose, on_step, share, watches
from tests import tiny as small
from tests.engine.training.test_train import FULL, PLAN, SEQUENCES, Killed, change, train
from tests.methods import contract
from tests.methods.contract import part
from tests.methods.official import frozen, same, wave

SMALL = {"density": 0.02, "period": 3, "accumulate": 1}
REFUSES = {"lora": "adapter: none"}
ROWS, COLUMNS, K, STEPS = 6, 8, 10, 24
DIFFERENCES = wave(ROWS * COLUMNS, phase=2.0).float()


def trainable(model, params):
    """The budget, a share of all weights, shared among the layers by their size and rounded down."""
    sizes = [layer.weight.numel() for layer in linears(model, ALL_LINEAR).values()]
    budget = int(params.density * sum(p.numel() for p in model.parameters()))
    return sum(int(budget * size / sum(sizes)) for size in sizes)


class One(nn.Module):
    """A model of one layer of 6 × 8, of which 10 entries train."""

    def __init__(self, criterion="ag"):
        super().__init__()
        self.layer = DeltaLinear(nn.Linear(COLUMNS, ROWS), "entries", torch.arange(K) * 5 + 2)
        self.layer.delta.data = DIFFERENCES[self.layer.index]
        self.layer.memory = MEMORIES[criterion](self.layer)


def dense(step):
    """The gradient of step `step`, counted from 0, as the official code was given it."""
    return wave(ROWS, COLUMNS, phase=0.5 * step).float()


def course(model, config, *, gradient=dense, packs=1, learning_rate=0.0, steps=STEPS, held=False):
    """Go through a training by these gradients, and yield what stands after `on_step`, and what stood before it.

    Differences that are `held` are a function of the entry, so that no two are equal and the order of entries plays no part.
    """
    layer = model.layer
    optimizer = torch.optim.AdamW([layer.delta], lr=learning_rate, weight_decay=0)
    for step in range(steps):
        state = optimizer.state[layer.delta]
        before = {key: state[key].clone() for key in ("exp_avg", "exp_avg_sq") if key in state}
        before |= {"index": layer.index.clone(), "delta": layer.delta.detach().clone()}
        on_step(Moment(step, STEPS, 0, model, optimizer, None, None, None), config)
        yield step, state, before
        layer.delta.grad = torch.zeros_like(layer.delta)
        for _ in range(packs):
            grad = gradient(step) / packs
            if layer.watcher:
                layer.watcher(grad)
            layer.delta.grad += grad.flatten()[layer.index]
        optimizer.step()
        if held:
            layer.delta.data = DIFFERENCES[layer.index]


@pytest.mark.parametrize("name", ["ag linear", "ag cosine", "ma linear"])
def test_choices_seeds_and_bounds_are_those_of_the_official_code(name):
    criterion, policy = name.split()
    config = SpielConfig(period=6, accumulate=2, rate=0.4, policy=policy, criterion=criterion)
    expected = {row["step"]: row for row in frozen("spiel")[name]}
    model = One(criterion)
    memory = memory_of(model.layer)
    for step, state, _ in course(model, config, held=True):
        if step not in expected:
            continue
        row = expected.pop(step)
        assert sorted(model.layer.index.tolist()) == row["index"]
        if criterion == "ma":
            same({"rows": memory.rows, "columns": memory.columns}, row)
        else:
            places = [model.layer.index.tolist().index(entry) for entry in row["grown"]]
            mean, square = (
                state[key][places] / (1 - beta**step) for key, beta in (("exp_avg", 0.9), ("exp_avg_sq", 0.999))
            )
            same({"mean": mean, "square": square}, row, rtol=1e-5)
    assert not expected


def test_a_grown_entry_next_takes_a_step_of_the_usual_size():
    """Of the learning rate, where its gradient repeats itself; from zero state it would be 3.2 times that."""
    config = SpielConfig(period=50, accumulate=3)
    model = One()
    for step, state, _ in course(model, config, gradient=lambda _: dense(0), learning_rate=0.01, steps=5):
        if step == 3:
            grown = (model.layer.delta == 0).nonzero().flatten()
            assert int(state["step"]) == 3
    assert len(grown) >= 8
    torch.testing.assert_close(model.layer.delta[grown].abs(), torch.full((len(grown),), 2 * 0.01), rtol=1e-3, atol=0)


def test_packs_of_a_step_count_as_their_sum():
    """The authors' seeds are G times too small for G packs of a step."""
    config = SpielConfig(period=6, accumulate=2, rate=0.4)
    states = []
    for packs in (1, 4):
        model = One()
        rows = [
            (model.layer.index.tolist(), state["exp_avg"].clone(), state["exp_avg_sq"].clone())
            for step, state, _ in course(model, config, packs=packs)
            if step in (2, 8)
        ]
        states.append(rows)
    for (index, mean, square), (other, other_mean, other_square) in zip(*states, strict=True):
        assert index == other
        torch.testing.assert_close(mean, other_mean)
        torch.testing.assert_close(square, other_square)


@pytest.mark.parametrize("criterion", ["ag", "ma"])
def test_what_stays_keeps_its_number_and_its_state_and_as_many_stay(criterion):
    config = SpielConfig(period=6, accumulate=2, rate=0.4, criterion=criterion)
    model, moved = One(criterion), {}
    for step, state, before in course(model, config, learning_rate=0.01):
        index = model.layer.index
        assert len(index.unique()) == K
        assert 0 <= index.min() <= index.max() < ROWS * COLUMNS
        stays = index == before["index"]
        for key, number in before.items():
            now = {"index": index, "delta": model.layer.delta}.get(key, state.get(key))
            assert torch.equal(now[stays], number[stays]), key
        assert (model.layer.delta[~stays] == 0).all()
        weakest = before["delta"].abs().sort().values
        assert (before["delta"][~stays].abs() <= weakest[max(int(K * share(step, STEPS, config)) - 1, 0)]).all()
        moved |= {step: int((~stays).sum())} if not stays.all() else {}
    assert 2 in moved
    assert len(moved) >= 2
    assert set(moved) <= {2, 8, 14, 20}
    assert all(count <= int(K * share(step, STEPS, config)) for step, count in moved.items())


def test_the_share_falls_to_nothing():
    config = SpielConfig(period=20, accumulate=5)
    shares = [share(step, 1000, config) for step in (5, 25, 505, 1000)]
    assert shares == [1.0, pytest.approx(0.195), pytest.approx(0.099), 0.0]
    cosine = SpielConfig(policy="cosine")
    assert [share(step, 1000, cosine) for step in (0, 500, 1000)] == [0.2, pytest.approx(0.1), 0.0]


def test_a_phase_has_the_steps_of_the_authors():
    """The first has the steps 1 to A, a later one those from one before a multiple of R to A after it."""
    config = SpielConfig(period=20, accumulate=5)
    assert [step + 1 for step in range(50) if watches(step, config)] == [*range(1, 6), *range(20, 26), *range(40, 46)]


def test_bounds_cover_the_squares_of_their_row_and_never_shrink():
    model, before = One("ma"), (torch.zeros(ROWS), torch.zeros(COLUMNS))
    layer, memory = model.layer, memory_of(model.layer)
    for step in range(6):
        memory.watch(layer, dense(step))
        memory.take_in(layer)
        square = dense(step).flatten()[layer.index].square()
        assert (memory.rows[layer.index // COLUMNS] >= square).all()
        assert (memory.columns[layer.index % COLUMNS] >= square).all()
        assert (memory.rows >= before[0]).all()
        assert (memory.columns >= before[1]).all()
        before = (memory.rows.clone(), memory.columns.clone())


def test_a_phase_whose_steps_were_all_left_out_changes_nothing():
    """As under a floor: no gradient came."""
    config = SpielConfig(period=6, accumulate=2, rate=0.4)
    model = One()
    before = model.layer.index.clone()
    optimizer = torch.optim.AdamW([model.layer.delta])
    for step in range(STEPS):
        on_step(Moment(step, STEPS, 0, model, optimizer, None, None, None), config)
    assert torch.equal(model.layer.index, before)


def test_period_0_leaves_the_entries_drawn_first_and_trains_them_as_full_fine_tuning_would(tiny):
    config = SpielConfig(density=0.02, period=0)
    ours, full = (contract.model("llama", tiny, torch.float64) for _ in range(2))
    choose(ours, config, contract.probe(), 0)
    layers = deltas.deltas(ours)
    first = {name: layer.index.clone() for name, layer in layers.items()}
    for name, layer in layers.items():
        weight = full.get_submodule(name).weight
        free = torch.zeros(weight.numel()).index_fill(0, layer.index, 1.0).view_as(weight)
        weight.register_hook(lambda grad, free=free: grad * free)
    parameters = ([layer.delta for layer in layers.values()], [full.get_submodule(name).weight for name in layers])
    for model, trained in zip((ours, full), parameters, strict=True):
        use_packed_attention(model)
        optimizer = torch.optim.AdamW(trained, lr=1e-3, weight_decay=0)
        for step in range(20):
            on_step(Moment(step, 20, 0, model, optimizer, None, None, None), config)
            optimizer.zero_grad()
            token_losses(model, contract.batch(step)).mean().backward()
            optimizer.step()
    assert all(torch.equal(layer.index, first[name]) for name, layer in layers.items())
    deltas.merge(ours)
    for (name, found), wanted in zip(ours.named_parameters(), full.parameters(), strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5, msg=name)


def test_the_first_entries_are_a_function_of_the_seed(tiny):
    def drawn(seed):
        model = contract.model("llama", tiny)
        choose(model, SpielConfig(**SMALL), contract.probe(), seed)
        return [layer.index.tolist() for layer in deltas.deltas(model).values()]

    assert drawn(0) == drawn(0) != drawn(1)


@pytest.mark.parametrize("criterion", ["ag", "ma"])
def test_memory_follows_the_budget_and_no_dense_gradient_is_kept(tiny, criterion):
    model = contract.model("llama", tiny)
    choose(model, SpielConfig(**SMALL, criterion=criterion), contract.probe(), 0)
    for layer in deltas.deltas(model).values():
        numbers = sum(buffer.numel() for buffer in layer.memory.buffers())
        entries = len(layer.index)
        assert numbers <= (4 * entries + 1 if criterion == "ag" else entries + layer.out_features + layer.in_features)
    use_packed_attention(model)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    on_step(Moment(0, 9, 0, model, optimizer, None, None, None), SpielConfig(**SMALL, criterion=criterion))
    token_losses(model, contract.batch()).mean().backward()
    assert all(layer.weight.grad is None for layer in deltas.deltas(model).values())
    assert all(layer.memory.pending.any() for layer in deltas.deltas(model).values()), "gradients have come"


CONFIG = {"density": 0.02, "period": 4, "accumulate": 2, "rate": 0.5}


@pytest.mark.parametrize("criterion", ["ag", "ma"])
@pytest.mark.parametrize("kill_at", [2, 3, 4, 5, 6])
def test_killed_anywhere_in_a_change_it_ends_in_the_bytes_of_a_straight_run(tiny, tmp_path, criterion, kill_at):
    """Changes come after the steps 2 and 6, and gradients are added up from step 4 on."""
    parts = replace(FULL, selector=part("selectors", "spiel", **CONFIG, criterion=criterion))
    plan, few = change(PLAN, epochs=3, save_every=1), SEQUENCES[:24]
    straight, steps = train(tiny, tmp_path / "straight", parts, plan, few)
    assert len(steps) > 8
    with pytest.raises(Killed):
        train(tiny, tmp_path / "killed", parts, plan, few, kill_at=kill_at)
    resumed, rest = train(tiny, tmp_path / "killed", parts, plan, few)
    assert rest == steps[kill_at - 1 :]
    kept = [{**outcome.attached.trainable, **outcome.attached.kept} for outcome in (straight, resumed)]
    assert all(torch.equal(kept[1][name], tensor) for name, tensor in kept[0].items())
    first, _ = contract.composed(small.load(tiny), parts)
    assert any(not torch.equal(kept[0][name], index) for name, index in first.kept.items() if name.endswith("index"))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"density": 0.0}, "density"),
        ({"density": 1.5}, "density"),
        ({"accumulate": 20}, "accumulate is 20, and must be below period, 20"),
    ],
)
def test_settings_that_cannot_be_are_refused(config, message):
    with pytest.raises(ValueError, match=message):
        SpielConfig(**config)


@pytest.mark.parametrize(("density", "targets"), [(1.0, "all-linear"), (1e-6, "all-linear"), (0.5, ("k_proj",))])
def test_a_density_that_the_layers_cannot_have_is_refused(tiny, density, targets):
    with pytest.raises(
        ValueError, match=r"spiel\.density .* selects .* of .* weights\. The layers in spiel\.targets have"
    ):
        choose(contract.model("llama", tiny), SpielConfig(density=density, targets=targets), contract.probe(), 0)


def test_a_training_that_ends_before_the_first_change_is_refused(tiny, tmp_path):
    parts, never = (
        replace(FULL, selector=part("selectors", "spiel", density=0.02, period=period, accumulate=6))
        for period in (8, 0)
    )
    plan, few = change(PLAN, epochs=1), SEQUENCES[:12]
    _, steps = train(tiny, tmp_path / "never", never, plan, few)
    with pytest.raises(
        ValueError, match=f"selector 'spiel' first acts before step 7, and this training has {len(steps)}."
    ):
        train(tiny, tmp_path / "short", parts, plan, few)
    assert len(steps) <= 6 < len(train(tiny, tmp_path / "long", parts, change(PLAN, epochs=9), few)[1])


def test_an_optimizer_without_gradient_is_refused_by_name():
    with pytest.raises(
        ValueError, match="selector 'spiel' works with the gradients of steps, and optimizer 'mezo' has none"
    ):
        compose.check(contract.composition(selectors="spiel", optimizers="mezo"))
