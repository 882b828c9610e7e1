"""MeZO walks along random directions that it never stores, in the memory of a forward pass.

One thing is not held here: the order in which tensors are drawn is one for all devices, but a GPU has other numbers than a CPU
for the same seed, so steps are equal on devices of one kind only; a CPU alone runs these tests. What trains with it is in
test_mezo_training.py.
"""

import math
import weakref
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from tasks.core.training import Group
from tasks.engine.training import compose
from tasks.methods.optimizers._mezo import place_seed, step_seed
from tasks.methods.optimizers.mezo.config import MezoConfig
from tasks.methods.optimizers.mezo.method import make
from tests.methods import deep
from tests.methods.contract import composition, model, part
from tests.methods.official import frozen, same, wave

SMALL = {"learning_rate": 1e-3}
STEPS = 20


def numbers(*shapes, seed=0, dtype=torch.float32):
    """Parameters of these shapes."""
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=generator, dtype=dtype)) for shape in shapes]


def copies(parameters):
    return [parameter.detach().clone() for parameter in parameters]


def over(parameters, seed=0, **config):
    """MeZO over these parameters: matrices, then vectors, as the engine groups them."""
    return make(grouped(parameters), MezoConfig(**config), seed)


def grouped(parameters):
    matrices = [p for p in parameters if p.ndim > 1]
    vectors = [p for p in parameters if p.ndim < 2]
    cut = [Group("matrices", matrices, rate=2.0), Group("vectors", vectors, decay=False)]
    return [group for group in cut if group.parameters]


def bowl(parameters):
    """A loss with a curved graph of every parameter."""
    return sum(
        ((p - 0.5) ** 2 * torch.linspace(0.1, 1, p.numel(), dtype=p.dtype).view(p.shape)).sum() for p in parameters
    )


def directions(mezo, parameters, packs=1):
    """z as each use of a step shows it: twice in every pack, and once in the update."""
    start, found = copies(parameters), []

    def loss():
        found.append(
            torch.cat([(p.detach() - s).flatten() / mezo._eps for p, s in zip(parameters, start, strict=True)])
        )
        return bowl(parameters)

    for _ in range(packs):
        mezo.estimate(loss)
    found = [z if number % 2 == 0 else -z for number, z in enumerate(found)]
    mezo.step()
    move = mezo.course["log"][-1]
    moved = [
        (p.detach() - s).flatten() / (-group["lr"] * move["gradients"][0])
        for group in mezo.param_groups
        for p in group["params"]
        for q, s in zip(parameters, start, strict=True)
        if p is q
    ]
    return [*found, torch.cat(moved)]


def test_the_weights_return_when_nothing_is_learnt():
    parameters = numbers((40, 30), (200,))
    before = copies(parameters)
    mezo = over(parameters)
    for group in mezo.param_groups:
        group["lr"] = 0.0
    mezo.step(lambda: bowl(parameters))
    for found, wanted in zip(parameters, before, strict=True):
        assert (found - wanted).norm() < 1e-6 * wanted.norm()


def test_the_estimate_is_the_gradient_on_average_and_as_long_as_lemma_2_says():
    """50 numbers, L = a . theta^2: E[g z] is the gradient, to sqrt((d + 1) / N); E |g z|^2 = (d + 2) |gradient|^2.

    The N = 100,000 estimates are made all at once, from the seeds of the optimizer's steps. The first thousand are held
    to be what its steps really do.
    """
    d, draws, eps = 50, 100_000, 1e-3
    (theta,) = numbers((d,), dtype=torch.float64)
    start, curve = theta.detach().clone(), torch.linspace(0.5, 2, d, dtype=torch.float64)
    gradient = 2 * curve * start
    generator, z_ND = torch.Generator(), torch.empty(draws, d, dtype=torch.float64)
    for step, z_D in enumerate(z_ND):
        generator.manual_seed(place_seed(step_seed(0, step, 0), 0))
        torch.randn(d, generator=generator, dtype=torch.float64, out=z_D)
    plus_N, minus_N = ((start + sign * eps * z_ND).square() @ curve for sign in (1, -1))
    estimates_ND = ((plus_N - minus_N) / (2 * eps))[:, None] * z_ND

    mezo = make([Group("theta", [theta])], MezoConfig(learning_rate=1.0, eps=eps), seed=0)
    for estimate_D in estimates_ND[:1000]:
        with torch.no_grad():
            theta.copy_(start)
        mezo.step(lambda: theta.detach().square() @ curve)
        torch.testing.assert_close(start - theta.detach(), estimate_D, rtol=0, atol=1e-8)

    error = (estimates_ND.mean(dim=0) - gradient).norm() / gradient.norm()
    assert error < 1.3 * math.sqrt((d + 1) / draws) < 0.04
    length = estimates_ND.square().sum(dim=1).mean() / gradient.square().sum()
    assert length.item() == pytest.approx(d + 2, rel=0.02)


def test_all_uses_of_a_step_draw_the_same_direction_and_other_steps_another():
    parameters = numbers((7, 5), (9,), dtype=torch.float64)
    mezo = over(parameters)
    first = directions(mezo, parameters, packs=2)
    second = directions(mezo, parameters)
    for z in first[1:]:
        torch.testing.assert_close(z, first[0], rtol=1e-6, atol=1e-6)
    assert not torch.allclose(first[0], second[0], atol=0.1)
    other = directions(over(parameters, seed=1), parameters)
    assert not torch.allclose(first[0], other[0], atol=0.1)


def test_a_tensors_part_of_a_direction_does_not_depend_on_the_others():
    parameters = numbers((7, 5), (4, 3), (9,), dtype=torch.float64)
    first = directions(over(parameters), parameters)[0]
    alone = numbers((7, 5), (4, 3), (9,), dtype=torch.float64)
    alone[0].requires_grad_(False)
    resting = directions(over(alone), alone)[0]
    assert not resting[:35].any()
    torch.testing.assert_close(resting[35:], first[35:], rtol=1e-6, atol=1e-6)
    assert len({*first.tolist()}) == len(first)


def test_the_global_generator_is_left_alone():
    parameters = numbers((7, 5))
    torch.manual_seed(3)
    before = torch.get_rng_state()
    over(parameters).step(lambda: bowl(parameters))
    assert torch.equal(torch.get_rng_state(), before)


def test_four_steps_are_those_that_the_official_trainer_made(monkeypatch):
    """zo_step and zo_update in float64, under our steps' seeds. What torch drew then was noted and is given again."""
    steps = frozen("mezo")["steps"].values()
    layer = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    for number, parameter in enumerate(layer.parameters()):
        parameter.data = wave(*parameter.shape, phase=number)
    x, y = wave(6, 3, phase=9.0), torch.arange(6) % 2
    groups = [Group(name, [p], decay="bias" not in name) for name, p in layer.named_parameters()]
    mezo = make(groups, MezoConfig(learning_rate=0.05, eps=1e-2, weight_decay=0.3), seed=0)
    shapes = [p.shape for p in layer.parameters()]
    drawn = {
        place_seed(step["seed"], place): torch.tensor(z, dtype=torch.float64).view(shape)
        for step in steps
        for place, (shape, z) in enumerate(zip(shapes, step["z"], strict=True))
    }
    monkeypatch.setattr(torch, "randn", lambda _, generator, **__: drawn[generator.initial_seed()])
    for step in steps:
        seen = []

        def loss(seen=seen):
            seen.append(nn.functional.cross_entropy(layer(x), y))
            return seen[-1]

        mezo.step(loss)
        (move,) = mezo.course["log"][-1:]
        same(seen[0], step["loss_plus"], rtol=0, atol=1e-9)
        assert move["gradients"] == pytest.approx([step["g"]], abs=1e-8)
        for parameter, expected in zip(layer.parameters(), step["weights"], strict=True):
            same(parameter, expected, rtol=0, atol=1e-8)
        for group in mezo.param_groups:
            group["lr"] *= 0.8


def test_steps_are_those_of_a_trainer_that_resets_torchs_global_generator():
    # As the published steps do before each pass over the named parameters, here with float32 and before each parameter.
    eps, rate, decay = 1e-3, 1e-3, 0.1
    layer = nn.Sequential(nn.Linear(6, 20), nn.Tanh(), nn.Linear(20, 3))
    x, y = torch.randn(8, 6, generator=torch.Generator().manual_seed(1)), torch.arange(8) % 3

    def loss():
        return nn.functional.cross_entropy(layer(x), y)

    # One group each, so that tensors have the places that they have among `named_parameters`.
    groups = [Group(name, [p], decay="bias" not in name) for name, p in layer.named_parameters()]
    start = copies(layer.parameters())
    mezo = make(groups, MezoConfig(learning_rate=rate, eps=eps, weight_decay=decay), seed=0)
    for _ in range(5):
        mezo.step(loss)
    found = copies(layer.parameters())

    def perturb(seed, factor):
        for place, p in enumerate(layer.parameters()):
            torch.manual_seed(place_seed(seed, place))
            p.data = p.data + factor * torch.normal(mean=0, std=1, size=p.size(), dtype=p.dtype) * eps

    with torch.no_grad():
        for p, value in zip(layer.parameters(), start, strict=True):
            p.copy_(value)
        for move in mezo.course["log"]:
            (seed,) = move["seeds"]
            perturb(seed, 1)
            plus = loss()
            perturb(seed, -2)
            minus = loss()
            perturb(seed, 1)
            g = ((plus - minus) / (2 * eps)).item()
            for place, (name, p) in enumerate(layer.named_parameters()):
                torch.manual_seed(place_seed(seed, place))
                z = torch.normal(mean=0, std=1, size=p.size(), dtype=p.dtype)
                p.data = p.data - rate * (g * z + (0.0 if "bias" in name else decay) * p.data)
    for p, wanted, before in zip(found, layer.parameters(), start, strict=True):
        torch.testing.assert_close(p, wanted.detach(), rtol=0, atol=1e-6)
        assert not torch.allclose(p, before, rtol=0, atol=1e-4)


def test_the_log_alone_leads_from_the_base_to_the_final_weights():
    config = MezoConfig(learning_rate=1e-2, weight_decay=0.3, directions=2)
    parameters = numbers((20, 10), (30,), (5, 4))
    start = copies(parameters)
    mezo = make(grouped(parameters), config, seed=0)
    for step in range(12):
        parameters[2].requires_grad_(step % 3 == 0)  # as a selector that changes over time
        mezo.param_groups[0]["lr"] *= 0.9
        mezo.step(lambda step=step: bowl(parameters) * (math.nan if step == 5 else 1))
    final = copies(parameters)
    assert len(mezo.course["log"]) == 11
    again = [nn.Parameter(value.clone()) for value in start]
    other = make(grouped(again), config, seed=0)
    for move in mezo.course["log"]:
        other.apply(move)
    for found, wanted, before in zip(again, final, start, strict=True):
        torch.testing.assert_close(found.detach(), wanted, rtol=0, atol=1e-5)
        assert not torch.allclose(wanted, before, atol=1e-2)


def test_frozen_tensors_keep_their_bits_and_are_not_decayed():
    parameters = numbers((20, 10), (8, 8))
    before = copies(parameters)
    mezo = over(parameters, learning_rate=1e-2, weight_decay=0.5)
    parameters[1].requires_grad_(False)
    mezo.step(lambda: bowl(parameters))
    assert torch.equal(parameters[1], before[1])
    assert not torch.equal(parameters[0], before[0])


def test_only_what_decays_decays():
    parameters = numbers((4, 3), (5,))
    before = copies(parameters)
    mezo = over(parameters, learning_rate=0.1, weight_decay=0.5)
    mezo.step(lambda: 1.0)  # no slope, so decay is all there is
    torch.testing.assert_close(parameters[0].detach(), before[0] * (1 - 2 * 0.1 * 0.5), rtol=0, atol=1e-6)
    torch.testing.assert_close(parameters[1].detach(), before[1], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("make_model", "norms"),
    [
        (deep.llama, {"model.norm.weight"}),
        (
            deep.qwen3,
            {"model.norm.weight", *(f"model.layers.{n}.self_attn.{x}_norm.weight" for n in range(4) for x in "qk")},
        ),
        (
            deep.gpt2,
            {f"transformer.{name}.weight" for name in ("ln_f", *(f"h.{n}.ln_{m}" for n in (0, 1) for m in (1, 2)))},
        ),
    ],
    ids=["llama", "qwen3", "gpt2"],
)
def test_no_norm_is_decayed_and_by_the_authors_code_those_without_layernorm_in_their_name(make_model, norms):
    """Of a weight of 1 a step at 0.1 with a decay of 0.5 leaves 0.95 there and 1 here; all else decays alike."""
    parts = replace(composition(), optimizer=part("optimizers", "mezo", learning_rate=0.1, weight_decay=0.5))
    attached = compose.compose(make_model(), parts, None, seed=0)
    before = {name: p.detach().clone() for name, p in attached.trainable.items()}
    optimizer = parts.optimizer.method.make(compose.groups(attached, parts), parts.optimizer.config, 0)
    optimizer.step(lambda: 1.0)  # no slope, so decay is all there is

    def official(name):
        """Return True where zo_update decays a parameter of this name."""
        return not any(part_of in name for part_of in ("bias", "layer_norm", "layernorm"))

    for name, p in attached.trainable.items():
        kept = 0.95 if official(name) and name not in norms else 1.0
        torch.testing.assert_close(p.detach(), kept * before[name], rtol=0, atol=1e-5)
    assert {name for name in before if official(name) and before[name].ndim == 1} == norms
    assert all(before[name].ndim == 2 for name in before if official(name) and name not in norms)


def test_tied_weights_are_perturbed_once(tiny):
    parts = replace(composition(), optimizer=part("optimizers", "mezo", eps=1.0))
    tied = model("llama", tiny)
    assert tied.lm_head.weight is tied.model.embed_tokens.weight
    attached = compose.compose(tied, parts, None, seed=0)
    before = tied.lm_head.weight.detach().clone()
    lengths = []

    def loss():
        lengths.append((tied.lm_head.weight.detach() - before).std().item())
        return torch.tensor(0.0)

    parts.optimizer.method.make(compose.groups(attached, parts), parts.optimizer.config, 0).step(loss)
    assert lengths == pytest.approx([1.0, 1.0], rel=0.05)  # eps z, and not 2 eps z


class Live(TorchDispatchMode):
    """Counts the bytes of tensors that operations make, as long as they live."""

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and not any(result is arg for arg in args):
            size = result.untyped_storage().nbytes()
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(result, self._free, size)
        return result

    def _free(self, size):
        self.now -= size


def test_a_step_takes_the_memory_of_one_direction_of_the_largest_tensor():
    parameters = numbers((300, 100), (300, 100), (200, 100), (100,))
    mezo = over(parameters, weight_decay=0.1, directions=2)
    with Live() as live:
        mezo.step(lambda: 1.0)
    largest = 4 * max(p.numel() for p in parameters)
    assert largest <= live.peak < 1.05 * largest
