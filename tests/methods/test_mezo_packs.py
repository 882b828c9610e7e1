"""A step of MeZO is one whatever it is put together of: packs, directions, processes, and a run that was broken off; what is no estimate."""

import io
import math
import multiprocessing

import pytest
import torch
from torch import distributed as dist
from torch import nn

from tasks.methods.optimizers._mezo import place_seed
from tasks.methods.optimizers.mezo.config import MezoConfig
from tests.methods.test_mezo import bowl, copies, numbers, over


@pytest.mark.parametrize("n", [1, 3])
def test_the_packs_of_a_step_add_up(n):
    whole, apart = numbers((9, 4), dtype=torch.float64), numbers((9, 4), dtype=torch.float64)
    one, many = over(whole, directions=n), over(apart, directions=n)
    for _ in range(3):
        one.step(lambda: bowl(whole))
        for share in (0.2, 0.5, 0.3):
            many.estimate(lambda share=share: share * bowl(apart))
        many.step()
    torch.testing.assert_close(one.course["log"][-1]["gradients"], many.course["log"][-1]["gradients"])
    torch.testing.assert_close(whole, apart, rtol=1e-6, atol=1e-6)


def test_several_directions_are_averaged():
    (theta,) = numbers((6,), dtype=torch.float64)
    start = theta.detach().clone()
    mezo = over([theta], learning_rate=0.1, directions=3)
    mezo.step(lambda: bowl([theta]))
    (move,) = mezo.course["log"]
    assert len(set(move["seeds"])) == 3
    generators = [torch.Generator().manual_seed(place_seed(seed, 0)) for seed in move["seeds"]]
    zs = [torch.randn(6, generator=generator, dtype=torch.float64) for generator in generators]
    expected = sum(g * z for g, z in zip(move["gradients"], zs, strict=True)) / 3
    torch.testing.assert_close(theta.detach(), start - 0.1 * expected)


def test_the_value_returned_is_the_loss_between_the_two():
    parameters = numbers((9, 4), dtype=torch.float64)
    expected = bowl(parameters)
    torch.testing.assert_close(
        over(parameters, eps=1e-4).estimate(lambda: bowl(parameters)), expected.detach(), rtol=1e-5, atol=0
    )


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_step_without_a_finite_gradient_is_skipped_and_counted(bad):
    parameters = numbers((9, 4))
    before = copies(parameters)
    mezo = over(parameters, weight_decay=0.5)
    returned = mezo.step(lambda: bowl(parameters) * bad)
    assert not math.isfinite(returned)
    torch.testing.assert_close(copies(parameters), before, rtol=0, atol=1e-6)
    assert (mezo.course["step"], mezo.course["skipped"], mezo.course["log"]) == (1, 1, [])
    mezo.step(lambda: bowl(parameters))
    assert mezo.course["skipped"] == 1
    assert not torch.allclose(parameters[0], before[0], rtol=0, atol=1e-7)


def test_a_step_without_an_estimate_is_refused():
    with pytest.raises(ValueError, match="call it first"):
        over(numbers((3, 2))).step()


def test_a_saved_optimizer_goes_on_to_the_same_bytes():
    parameters = numbers((9, 4), (5,))
    mezo = over(parameters, directions=2)
    for _ in range(3):
        mezo.step(lambda: bowl(parameters))
    file = io.BytesIO()
    torch.save(mezo.state_dict(), file)
    resumed = [nn.Parameter(p.detach().clone()) for p in parameters]
    other = over(resumed, directions=2)
    other.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    for _ in range(3):
        mezo.step(lambda: bowl(parameters))
        other.step(lambda: bowl(resumed))
    assert other.course == mezo.course
    assert all(map(torch.equal, resumed, parameters))


def one_of_two(rank, folder):
    """A process that holds three tenths of every step's loss, or the rest."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    (theta,) = numbers((5,), dtype=torch.float64)
    mezo = over([theta], learning_rate=0.1)
    for _ in range(3):
        mezo.step(lambda: 2 * (0.3, 0.7)[rank] * bowl([theta]))  # times the processes, as Trainer does
    torch.save(theta.detach(), folder / f"{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_take_the_step_of_one(tmp_path):
    fresh = multiprocessing.get_context("spawn")  # a fork beside threads can hang
    started = [fresh.Process(target=one_of_two, args=(rank, tmp_path)) for rank in (0, 1)]
    for process in started:
        process.start()
    for process in started:
        process.join(300)  # seconds on free cores, minutes on a busy machine
    assert [process.exitcode for process in started] == [0, 0]
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    (theta,) = numbers((5,), dtype=torch.float64)
    alone = over([theta], learning_rate=0.1)
    for _ in range(3):
        alone.step(lambda: bowl([theta]))
    assert torch.equal(first, second)
    torch.testing.assert_close(first, theta.detach())


@pytest.mark.parametrize("wrong", [{"learning_rate": 0}, {"eps": 0}, {"directions": 0}, {"weight_decay": -1}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        MezoConfig(**wrong)
