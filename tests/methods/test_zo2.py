"""ZO2 makes MeZO's steps to the bit with few blocks of the model in memory. Home is a file here, as these tests have no GPU."""

import errno
import hashlib
import os
import threading
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save

from tasks import methods
from tasks.core.training import Training
from tasks.core.weights import surgery
from tasks.engine.training import compose, fit
from tasks.engine.training import train as engine
from tasks.methods.optimizers.zo2 import method as zo2
from tasks.methods.optimizers.zo2.blocks import in_host_memory
from tasks.methods.optimizers.zo2.passes import THREAD, Pass
from tests import tiny as small
from tests.methods import contract, deep
from tests.methods.contract import composition, part

SMALL = {"learning_rate": 1e-3, "resident_mb": 0.25}
"""Room for one of the two blocks of the tiny LLaMA."""
BLOCK_MB = 0.032
"""A little more than a block of `deep.llama` takes."""
STEPS = 20
PLAN = Training(pack_tokens=48, accumulation=2, max_tokens=600, epochs=4, warmup=0.2, save_every=2)
SEQUENCES = small.sequences(24, seed=4)
LAYERS = 5


def llama():
    return deep.llama(LAYERS)


CASES = {
    "all weights": {},
    "decay": {"weight_decay": 0.3},
    "two directions": {"directions": 2},
    "lora": {"adapters": "lora"},
    "mhr": {"adapters": "mhr"},  # its layers read the row that each pass is told of
    "dept": {"adapters": "dept"},  # a prompt and offsets outside of the blocks
    "soka": {"adapters": "soka"},
    "s2ft": {"selectors": "s2ft"},
    "lisa": {"selectors": "lisa"},  # says before each step what trains
    "llama_pro": {"expanders": "llama_pro"},
    "exact_match": {"objectives": "exact_match"},
    "mftcoder": {"objectives": "mftcoder"},
}
MODELS = {"llama": llama, "tied head": deep.qwen3, "gpt2": deep.gpt2}


def parts(name, case, **config):
    chosen = {key: value for key, value in CASES[case].items() if key in contract.NEUTRAL}
    settings = {key: value for key, value in CASES[case].items() if key not in chosen} | config
    extra = {"resident_mb": BLOCK_MB} | settings if name == "zo2" else settings
    return replace(composition(**chosen), optimizer=part("optimizers", name, **{"learning_rate": 1e-3} | extra))


def train(name, work, case="all weights", model=llama, compute=small.FP32, plan=PLAN, valid=True, **config):
    """What a training comes to, and its optimizer."""
    chosen, made = parts(name, case, **config), []

    def keeping(*arguments):
        made.append(chosen.optimizer.method.make(*arguments))
        return made[-1]

    kept = replace(chosen, optimizer=replace(chosen.optimizer, method=replace(chosen.optimizer.method, make=keeping)))
    data = engine.TrainData(SEQUENCES, {"valid": SEQUENCES[:4]} if valid else {}, small.sequences(4, seed=5))
    result = engine.train(model().train(), data, kept, plan, compute, work)
    tensors = {name: tensor.detach().contiguous() for name, tensor in result.attached.model.state_dict().items()}
    digest = hashlib.sha256(save({name: tensor.clone() for name, tensor in tensors.items()})).hexdigest()
    return (result.losses, result.measured, made[0].course, digest), made[0]


@pytest.mark.parametrize(
    ("case", "model", "compute"),
    [(case, "llama", small.FP32) for case in CASES]
    + [("all weights", model, small.FP32) for model in MODELS if model != "llama"]
    + [(case, "tied head", small.BF16) for case in ("all weights", "lora")],
    ids=lambda value: getattr(value, "precision", value),
)
def test_losses_weights_and_log_are_those_of_mezo(tmp_path, case, model, compute):
    options = {"case": case, "model": MODELS[model], "compute": compute}
    streamed, optimizer = train("zo2", tmp_path / "zo2", resident_mb=0.2 if model == "gpt2" else 0.1, **options)
    straight, _ = train("mezo", tmp_path / "mezo", **options)
    assert streamed == straight
    assert optimizer.blocks.uploads > 0
    assert len(straight[0]) > 5
    assert len({tuple(move["rates"]) for move in optimizer.course["log"]}) > 3, "the rate is scheduled"


@pytest.mark.parametrize(
    ("blocks_of_room", "most", "coming"), [(1, 1, 5), (2, 2, 5), (3, 3, 5), (None, 3, 5), (4, 3, 4), (5, 0, 0)]
)
def test_a_pass_brings_each_block_once_and_no_more_than_there_is_room_for(tmp_path, blocks_of_room, most, coming):
    plan = PLAN.model_copy(update={"save_every": 0, "validate_every": 0})
    room = None if blocks_of_room is None else blocks_of_room * BLOCK_MB
    streamed, optimizer = train("zo2", tmp_path / "zo2", plan=plan, valid=False, resident_mb=room)
    straight, _ = train("mezo", tmp_path / "mezo", plan=plan, valid=False)
    assert streamed == straight
    packs = sum(1 for _ in engine.lay_out(SEQUENCES, (), (), plan).packs)
    assert optimizer.blocks.uploads == coming * (packs + 1)  # and once more for the last step
    assert optimizer.blocks.most_resident <= most
    assert optimizer.blocks.resident == 0
    assert sum(block.home is None for block in optimizer.blocks.blocks) == LAYERS - coming


def test_no_room_for_a_block_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"resident_mb is 0.01, and the largest block of this model takes 0.030976 MB"):
        train("zo2", tmp_path, resident_mb=0.01)


def streamed(model, folder, **config):
    """A model whose blocks are in `folder`, its optimizer, and the loss of a row."""
    chosen = parts("zo2", "all weights", **config)
    attached, optimizer = contract.composed(model, chosen)
    optimizer.stream(attached.model, "cpu", folder)
    return attached.model.eval(), optimizer, lambda: attached.model(**contract.batch())["loss"]


def weights(model):
    return [parameter.detach().clone() for parameter in model.parameters()]


def test_a_step_is_made_in_the_pass_after_it_or_when_it_is_settled(tmp_path):
    attached, mezo = contract.composed(llama(), parts("mezo", "all weights"))
    attached.model.eval()

    def loss():
        return attached.model(**contract.batch())["loss"]

    model, optimizer, of_streamed = streamed(llama(), tmp_path)
    for _ in range(2):
        mezo.step(loss)
        optimizer.step(of_streamed)
    mezo.estimate(loss)
    optimizer.estimate(of_streamed)
    before = weights(attached.model)
    mezo.step()
    optimizer.step()
    assert all(map(torch.equal, weights(model), before))
    optimizer.settle()
    assert all(map(torch.equal, weights(model), weights(attached.model)))
    assert not any(map(torch.equal, weights(model), before))
    optimizer.settle()
    assert all(map(torch.equal, weights(model), weights(attached.model)))


def test_between_steps_a_reader_finds_one_block_in_memory_at_a_time(tmp_path):
    _, optimizer, loss = streamed(llama(), tmp_path, resident_mb=BLOCK_MB)
    with torch.no_grad():
        assert loss().item() == llama_loss()
    assert (optimizer.blocks.most_resident, optimizer.blocks.resident, optimizer.blocks.uploads) == (1, 0, 0)


def llama_loss():
    model = compose.compose(llama(), composition(), contract.probe(), seed=0).model.eval()
    with torch.no_grad():
        return model(**contract.batch())["loss"].item()


def test_the_weights_in_memory_are_less_than_a_third(tmp_path):
    """Three blocks, and both sides of what lies outside of them. MeZO has all weights, and one z."""
    model, optimizer, loss = streamed(deep.llama(32), tmp_path, resident_mb=None)
    seen = []

    def note(*_):
        at_home = {tensor.data_ptr() for block in optimizer.blocks.blocks for tensor in block.home.tensors}
        here = sum(tensor.nbytes for tensor in model.parameters() if tensor.data_ptr() not in at_home)
        seen.append(here)

    for layer in surgery.decoder_layers(model):
        layer.register_forward_hook(note)
    optimizer.step(loss)
    optimizer.settle()
    outside = sum(tensor.nbytes for tensor in (model.get_input_embeddings().weight, model.lm_head.weight))
    total = sum(tensor.nbytes for tensor in model.parameters())
    assert len(seen) == 2 * 32
    assert max(seen) + outside < total / 3
    foretold = fit.of_model(deep.llama(32), parts("zo2", "all weights", resident_mb=None), Training(pack_tokens=16))
    block = sum(tensor.nbytes for tensor in surgery.decoder_layers(model)[0].parameters())
    most = total - (32 - 3) * block  # a slow machine may have fewer than three blocks there at once
    assert max(seen) <= most
    assert foretold.memory_bytes == pytest.approx(most + outside + 4 * 16 * 259, rel=0.15)


def test_the_file_of_blocks_has_no_name_and_ends_with_the_process(tmp_path):
    streamed(llama(), tmp_path / "work")
    assert [*(tmp_path / "work").iterdir()] == []


def test_a_full_disk_is_an_error_and_no_broken_page(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        streamed(llama(), tmp_path)


def test_a_home_in_the_memory_of_the_host_gives_the_same(tmp_path, monkeypatch):
    on_disk, _ = train("zo2", tmp_path / "disk")
    monkeypatch.setattr(zo2, "on_disk", lambda tensors, _: in_host_memory(tensors))
    in_memory, optimizer = train("zo2", tmp_path / "memory")
    assert in_memory == on_disk
    assert optimizer.blocks.uploads > 0


@pytest.mark.parametrize("blocks_of_room", [1, 2, 3])
def test_a_pass_that_fails_ends_the_other_and_leaves_no_block_behind(tmp_path, blocks_of_room):
    model, optimizer, loss = streamed(llama(), tmp_path, resident_mb=blocks_of_room * BLOCK_MB)
    handle = surgery.decoder_layers(model)[2].register_forward_hook(fail)
    with pytest.raises(ZeroDivisionError):
        optimizer.step(loss)
    assert optimizer.blocks.resident == 0
    assert passes_running() == 0
    handle.remove()
    optimizer.step(loss)


def fail(*_):
    raise ZeroDivisionError


def passes_running():
    return sum(thread.name == THREAD for thread in threading.enumerate())


def test_a_loss_that_goes_through_the_model_twice_is_refused(tmp_path):
    _, optimizer, loss = streamed(llama(), tmp_path)
    with pytest.raises(ValueError, match="more than once"):
        optimizer.step(lambda: loss() + loss())
    assert passes_running() == 0


def test_a_pass_raises_in_its_caller_and_ends_when_it_is_closed():
    failing = Pass(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        failing.advance()
    failing.close()
    unused = Pass(lambda: 1.0)
    unused.close()
    assert unused.value is None


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ({"bases": "nf4", "adapters": "lora"}, "base 'nf4' stores weights quantised"),
        ({"adapters": "mola"}, "adapter 'mola' stores state of one pass"),
        ({"adapters": "sherl"}, "adapter 'sherl' stores state of one pass"),
        ({"objectives": "dpo"}, "objective 'dpo' reads a row and its auxiliary sequences"),
    ],
)
def test_what_cannot_go_block_by_block_is_refused(names, reason):
    with pytest.raises(ValueError, match=reason):
        compose.check(composition(optimizers="zo2", **names))


def test_several_processes_cannot_share_it():
    assert methods.alone({"optimizers": "zo2"}) == [
        "optimizers zo2: two passes are under way at a time, and DDP follows one"
    ]
