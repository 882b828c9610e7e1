"""Each training is counted before it is begun, and takes as much memory as was counted."""

import argparse
import gc
import json
import random
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR

from tasks import methods
from tasks.core.training import Moment, Training
from tasks.engine.training import compose, fit
from tasks.engine.training import train as engine
from tasks.engine.training.allocations import allocations
from tasks.io.weights import checkpoints
from tasks.methods.selectors.ist.method import drawn
from tests import tiny as small
from tests.engine.test_compositions import COMPOSITIONS, parts
from tests.methods import contract

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "benchmarks"))

import memory

SELECTORS = methods.names("selectors")


def sections(name):
    """The settings of a selector's own tests, which suit a tiny model."""
    return {name: contract.said(name, "SMALL", {})}


@pytest.mark.parametrize("name", SELECTORS)
def test_the_count_is_that_of_a_training(tiny, name):
    size = fit.of_selector(tiny, name, sections(name), 1024)
    parts = contract.composition(selectors=name)
    if size.adapter == "lora":
        config = methods.spec("adapters", "lora").config()
        parts = replace(parts, adapter=replace(contract.part("adapters", "lora"), config=config))
    attached, optimizer = contract.composed(contract.model("llama", tiny), parts)
    contract.steps(attached, optimizer, parts, count=1)
    assert size.trains == sum(p.numel() for p in attached.trainable.values())
    assert size.at_once == sum(p.numel() for p in attached.trainable.values() if p.requires_grad)
    with_state = (
        size.at_once if name == "lisa" else size.trains
    )  # it frees the state of layers that do not have their turn
    assert size.optimizer_bytes == 4 * size.at_once + 8 * with_state
    kept = sum(tensor.nbytes for tensor in attached.kept.values())
    assert size.checkpoint_bytes == 4 * size.trains + 8 * with_state + kept
    assert size.saved_bytes in (4 * size.trains, 8 * size.trains)


def test_the_command_shows_a_row_for_each_and_the_reason_where_one_cannot(tiny, tmp_path, monkeypatch, capsys):
    from flows.commands.methods import methods as command

    monkeypatch.chdir(tmp_path)
    report = command(["all", "neuroada", "ist"], fit=tiny)
    said = capsys.readouterr().out
    assert [row.selector for row in report.fit] == ["all", "ist", "neuroada"]
    assert "gradients and AdamW" in said
    assert "ist.sets is 3, and 2 layers with an adapter" in said
    assert report.fit[2].trains < report.fit[0].trains
    json.dumps([vars(row) for row in report.fit])
    with pytest.raises(ValueError, match="--fit is about selectors"):
        command(["lora"], fit=tiny)


def test_the_memory_is_that_of_weights_optimizer_and_what_goes_backward(tiny):
    """Twice the pack keeps twice as much for going backward; weights and moments stay as they are."""
    first, second, third = (
        fit.of_selector(tiny, "neuroada", sections("neuroada"), tokens).memory_bytes for tokens in (1024, 2048, 4096)
    )
    assert third - second == pytest.approx(2 * (second - first), abs=8)
    model = contract.model("llama", tiny)
    weights = sum(tensor.nbytes for tensor in {*model.parameters(), *model.buffers()})
    resident = first - (second - first)
    size = fit.of_selector(tiny, "neuroada", sections("neuroada"), 1024)
    expected = weights + (4 + 8 + 8) * size.trains
    # At these lengths a layer makes more on its way than a piece of the logits is, and that too grows with the pack. The first token of
    # a row trains nothing, so that what is kept for the head begins below nothing.
    assert resident == pytest.approx(expected, rel=0.01), "beside the weights the change, its place, two moments"
    full = fit.of_selector(tiny, "all", {}, 16)
    assert full.memory_bytes >= weights + 12 * full.trains, "gradients count where they are more than what is kept"


def test_a_count_prints_nothing_of_its_own(capfd):
    with allocations() as running:
        torch.zeros(1000)
    assert max(running) >= 4000
    assert capfd.readouterr().err == ""


def test_the_collector_does_not_release_what_was_made_before_while_memory_is_counted():
    with allocations():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_a_budget_says_what_fits_the_largest_first(tiny, tmp_path, monkeypatch, capsys):
    from flows.commands.methods import methods as command

    monkeypatch.chdir(tmp_path)
    names = ["all", "neuroada", "ist", "locft_bf"]
    sizes = {row.selector: row.memory_bytes for row in command(names, fit=tiny, as_json=True).fit}
    between = (sizes["all"] + sizes["neuroada"]) / 2
    report = command(names, fit=tiny, memory=f"{between / 1e6:.6f}MB")
    said = capsys.readouterr().out
    assert [(row.selector, row.fits) for row in report.fit] == [
        *((name, True) for name in sorted(("neuroada", "locft_bf"), key=sizes.__getitem__, reverse=True)),
        ("all", False),
        ("ist", None),
    ]
    assert report.memory_budget_bytes == pytest.approx(between, abs=2)
    assert f"does not fit {between / 1e6:,.1f} MB" in said
    for wrong in ("8", "GB", "0GB", "-1GB", "8gb"):
        with pytest.raises(ValueError, match="is not a size"):
            command(names, fit=tiny, memory=wrong)
    with pytest.raises(ValueError, match="Name its folder"):
        command(names, memory="8GB")


@pytest.fixture
def defaults():
    """The benchmark's defaults."""
    return argparse.Namespace(
        model=None, shape="small", dtype="float32", steps=3, tokens=512, threads=1, without_record=False
    )


SIX = ("neuroada", "spiel", "spiel, ma", "kappatune", "locft_bf", "cofitune", "ist")


@pytest.mark.parametrize("side", ["full", "lora, checkpointed", *SIX, "mezo"])
def test_the_benchmark_finds_as_much_memory_as_was_counted(defaults, side):
    """As the allocator counts it: a dense gradient that were kept, or a copy of the weights, would show."""
    gc.collect()
    defaults.steps, defaults.tokens = 2, 256
    measured = memory.measured(side, defaults)
    assert measured.peak == pytest.approx(measured.count, rel=0.1)
    gradient_free = side == "mezo"
    if side != "ist":  # layers that have not had their turn have no state
        assert measured.optimizer == pytest.approx(0 if gradient_free else 12 * measured.trains, rel=0.01)
    assert (measured.saved == 0) == gradient_free
    assert measured.seconds > 0


@pytest.mark.parametrize("side", memory.sides())
def test_every_side_of_the_benchmark_begins_to_train_by_default(defaults, side):
    plan, chosen = memory.planned(side, defaults)
    probe = contract.probe()
    attached = compose.compose(memory.model_of(defaults).train(), chosen, probe, plan.seed)
    optimizer = chosen.optimizer.method.make(compose.groups(attached, chosen), chosen.optimizer.config, plan.seed)
    scheduler, linear = LambdaLR(optimizer, lambda _: 1.0), compose.linear(attached, chosen)
    first = Moment(0, defaults.steps, plan.seed, attached.model, optimizer, scheduler, probe, probe, linear=linear)
    for _, part in compose.hooks(chosen):
        part.method.on_step(replace(first, state={}), part.config)
    assert any(parameter.requires_grad for parameter in attached.trainable.values())


def test_a_side_that_cannot_train_is_a_row_of_the_benchmark(defaults, capsys):
    defaults.steps = 1
    memory.show([memory.measured_or_refused("loca", defaults)])
    assert (
        "loca                 refused: loca: the training has 1 steps, and places learn after"
        in capsys.readouterr().out
    )


def test_layers_whose_turn_comes_later_are_counted(tiny):
    chosen = parts("lora × ist")
    first, second = (
        drawn([0.0, 0.0], 1, lambda score: -score, random.Random(f"{TURNS['lora × ist']['seed']}/{step}"))
        for step in (0, 1)
    )
    assert (first, second) == ([1], [0])
    short, long = (
        fit.of_model(
            loaded(tiny, chosen),
            chosen,
            Training(pack_tokens=512, max_tokens=512 * steps, **TURNS["lora × ist"]),
        )
        for steps in (1, 2)
    )
    assert long.memory_bytes > 1.1 * short.memory_bytes, "both layers keep what the upper one does alone"
    assert long.optimizer_bytes == short.optimizer_bytes


CHECKPOINTED = {"activation_checkpointing": True}
MISSED = (
    "fait × full",  # its columns need seeds, which arbitrary rows have not
    "dept",  # the rows that are counted are longer than its prompts allow
    "zo2",  # its blocks arrive by threads that are not counted
    "lora × zo2",
)
"""Compositions that are not compared."""
TURNS = {"lora × ist": {"seed": 1}, "mola × ist": {"seed": 1}}
"""Seeds by which the lower layer has its turn after the first step, from which on is measured."""
PLANS = [
    *((name, TURNS.get(name, {})) for name in COMPOSITIONS if not name.startswith(MISSED)),
    *((name, CHECKPOINTED) for name in ("full", "mola", "lora", "lisa")),
    ("full", {"accumulation": 2}),
]


@pytest.mark.parametrize(("name", "settings"), PLANS, ids=str)
def test_the_peak_of_a_composition_is_foretold(tiny, tmp_path, name, settings):
    """Counted by the allocator in the steps after the first, from the weights and the optimizer's state on."""
    chosen = parts(name)
    plan = Training(**{"pack_tokens": 512, "max_tokens": 4 * 512, "save_every": 0, "validate_every": 0} | settings)
    foretold = fit.of_model(loaded(tiny, chosen), chosen, plan).memory_bytes
    model, peak = loaded(tiny, chosen), []
    with ExitStack() as stack:

        def on_step(metrics):
            if metrics.step == 1:
                peak.append(resident(model) + state(optimizers[0]))
                peak.append(stack.enter_context(allocations()))
            if metrics.step == metrics.steps:
                stack.close()

        optimizers = []

        def keeping(*arguments):
            optimizers.append(chosen.optimizer.method.make(*arguments))
            return optimizers[-1]

        method = replace(chosen.optimizer.method, make=keeping)
        kept = replace(chosen, optimizer=replace(chosen.optimizer, method=method))
        rows = [small.paired(replace(fit.arbitrary(512, 259), id=str(number))) for number in range(4)]
        data = engine.TrainData(rows, probe=small.sequences(4, seed=5))
        engine.train(model.train(), data, kept, plan, small.FP32, tmp_path, on_step=on_step)
    base, running = peak
    assert foretold == pytest.approx(base + max(running), rel=0.15)


def loaded(tiny, chosen):
    return checkpoints.load(tiny, quantization=chosen.base.method.quantization(chosen.base.config))[0]


def resident(model):
    return sum(tensor.nbytes for tensor in {*model.parameters(), *model.buffers()})


def state(optimizer):
    entries = [entry for entry in optimizer.state.values() if "exp_avg" in entry]
    return sum(entry["exp_avg"].nbytes + entry["exp_avg_sq"].nbytes for entry in entries)
