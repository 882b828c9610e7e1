"""Compressor `levels` stores what has 2^b values in b bits of a number and without loss, and rounds what has more."""

import json
import math
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from tasks.core.weights import levels
from tasks.engine.training import store
from tasks.io.weights import checkpoints, compressed, models
from tasks.methods.compressors.levels.config import LevelsConfig
from tasks.methods.compressors.levels.method import candidates, decode, encode, quantise
from tests.methods import contract
from tests.methods.official import wave

SMALL = {"bits": 2}


def few(count, *shape, dtype=torch.float32):
    """A tensor of so many values, each of which it has."""
    values = torch.linspace(-1.7, 2.3, count).to(dtype)
    return values[torch.arange(math.prod(shape)) % count].view(shape)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("count", "bits"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 4), (16, 4)])
def test_a_tensor_of_few_values_is_stored_without_loss_in_as_few_bits(count, bits, dtype):
    delta = {"layer.weight": few(count, 24, 5, dtype=dtype)}
    assert torch.equal(quantise(delta, LevelsConfig(bits=bits))["layer.weight"], delta["layer.weight"])
    stored = encode(delta)
    assert stored["bits"].numel() == 120 * bits // 8
    assert stored[f"values/{str(dtype).removeprefix('torch.')}"].numel() == count
    assert torch.equal(decode(stored)["layer.weight"], delta["layer.weight"])


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_tensor_of_more_values_is_rounded_as_the_adapters_see_it(bits):
    delta = {"w": wave(12, 20, dtype=torch.float32)}
    rounded = quantise(delta, LevelsConfig(bits=bits))["w"]
    assert torch.equal(rounded, levels.quantised(delta["w"], bits))
    assert torch.equal(quantise({"w": rounded}, LevelsConfig(bits=bits))["w"], rounded), "and once only"


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_small_difference_is_rounded_as_a_large_one(bits):
    """Whole weights trained at 1e-5 differ from the base by about as much; by 2^-20 the products are exact."""
    large, small = ({"w": wave(12, 20, dtype=torch.float32) * size} for size in (1.0, 2.0**-20))
    expected, found = (quantise(delta, LevelsConfig(bits=bits))["w"] for delta in (large, small))
    torch.testing.assert_close(found * 2.0**20, expected)
    assert len(found.unique()) == len(expected.unique())
    assert not quantise({"w": wave(12, 20, dtype=torch.float32) * 1e-30}, LevelsConfig(bits=bits))["w"].isnan().any()


def test_tensors_of_all_kinds_come_back_from_one_file(tmp_path):
    tensors = {
        "b": few(2, 3, 3),
        "a": few(16, 7, 5, dtype=torch.bfloat16),
        "one": torch.tensor([-3.0]),
        "none": torch.zeros(4),
        "many": wave(5, 5, dtype=torch.float32),
        "whole": torch.arange(40),
        "scalar": torch.tensor(2.5),
    }
    save_file(encode(tensors), tmp_path / "delta.safetensors")
    back = decode(load_file(tmp_path / "delta.safetensors"))
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[name], tensor) and back[name].dtype == tensor.dtype for name, tensor in tensors.items())


def test_a_config_leaves_nothing_open():
    assert candidates(LevelsConfig(bits=2)) == [LevelsConfig(bits=2)]


def saved(tiny, folder, adapter, **settings):
    """A trained adapter of this method on disk with its card, and the model it was trained in."""
    parts = replace(contract.composition(), adapter=contract.part("adapters", adapter, **settings))
    attached, optimizer = contract.composed(checkpoints.load(tiny)[0], parts)
    contract.steps(attached, optimizer, parts, count=3)
    store.save(attached, parts, None, folder)
    checkpoints.write_card(folder, method=parts.names, parent=checkpoints.weights_digest(tiny))
    return attached


def compress(tuned, base, folder, bits):
    """What stage `compress` stores of it with `levels`."""
    folder.mkdir()
    compressed.copy_facts(tuned, folder)
    compressed.write_delta(folder, encode(quantise(compressed.read_delta(tuned, base), LevelsConfig(bits=bits))))
    compressed.write_note(folder, "levels", {"bits": bits})
    checkpoints.write_card(folder, parent=checkpoints.weights_digest(base))


def sizes(file):
    """The bytes of each tensor in a safetensors file, and all others that it has."""
    header = int.from_bytes(file.read_bytes()[:8], "little")
    tensors = json.loads(file.read_bytes()[8 : 8 + header])
    payload = {name: end - start for name, (start, end) in ((n, t["data_offsets"]) for n, t in tensors.items())}
    return payload, file.stat().st_size - sum(payload.values()) - 8 - header


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("adapter", ["binadapter", "biadaptformer"])
def test_an_adapter_trained_in_few_values_is_a_file_of_exactly_so_many_bits_and_the_same_model(
    tiny, tmp_path, adapter, bits
):
    attached = saved(tiny, tmp_path / "tuned", adapter, rank=8, bits=bits, scale=30.0, dropout=0.0)
    compress(tmp_path / "tuned", tiny, tmp_path / "small", bits)

    payload, rest = sizes(tmp_path / "small" / compressed.DELTA)
    matrices, numbers = len(attached.trainable), sum(p.numel() for p in attached.trainable.values())
    assert payload.pop("header") < 100 + 30 * matrices
    values = sum(len(tensor.unique()) for tensor in compressed.read_delta(tmp_path / "tuned", tiny).values())
    assert payload == {"bits": numbers * bits // 8, "values/float32": 4 * values}
    assert matrices < values <= 2**bits * matrices, "the outermost of 16 levels may stand nowhere"
    assert rest == 0
    if bits == 1:
        assert sum(payload.values()) == numbers // 8 + 8 * matrices, "the authors' mean and deviation take as much"

    expected = contract.losses(attached.model)
    before = contract.losses(checkpoints.load(tmp_path / "tuned", tiny)[0])
    after = contract.losses(models.load(tmp_path / "small", tiny)[0])
    torch.testing.assert_close(before, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(after, expected, rtol=1e-4, atol=1e-4)
    out = tmp_path / "out"
    out.mkdir()
    compressed.unpack(tmp_path / "small", out)
    if adapter == "binadapter":
        theirs, ours = (load_file(tmp_path / folder / checkpoints.PEFT_WEIGHTS) for folder in ("tuned", "out"))
        assert theirs.keys() == ours.keys()
        assert all(torch.equal(theirs[name], tensor) for name, tensor in ours.items())
    else:
        assert torch.equal(after, expected), "the same values in the same block"
        assert json.loads((out / checkpoints.OWN_ADAPTER).read_text())["params"]["bits"] == 32


def test_an_adapter_trained_in_full_is_rounded_afterwards_and_is_another(tiny, tmp_path):
    attached = saved(tiny, tmp_path / "tuned", "lora", rank=8)
    compress(tmp_path / "tuned", tiny, tmp_path / "small", 1)
    after = contract.losses(models.load(tmp_path / "small", tiny)[0])
    assert (after - contract.losses(attached.model)).abs().max() > 1e-3
