"""What every compressor owes: it is run for each file found in the folder."""

import hashlib

import pytest
import torch
from safetensors.torch import load_file, save_file

from tasks import methods
from tasks.io.weights import checkpoints
from tasks.methods.compressors import DeltaCompressor, WeightCompressor
from tests.methods import contract


def of_kind(kind):
    return [n for n in methods.names("compressors") if isinstance(methods.load("compressors", n), kind)]


DELTA, WEIGHT = of_kind(DeltaCompressor), of_kind(WeightCompressor)


@pytest.fixture(params=contract.MODELS)
def kind(request):
    return request.param


def delta(kind, tiny, dtype):
    """The tensors of a LoRA after a few steps."""
    parts = contract.composition(adapters="lora")
    attached, optimizer = contract.composed(contract.model(kind, tiny), parts)
    contract.steps(attached, optimizer, parts)
    return {name: tensor.detach().to(dtype) for name, tensor in attached.trainable.items()}


def digests(folder):
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}


@pytest.mark.parametrize("name", DELTA)
@pytest.mark.parametrize("dtype", contract.DTYPES, ids=str)
def test_a_difference_keeps_its_names_shapes_and_types(tiny, kind, name, dtype):
    part, tensors = contract.part("compressors", name), delta(kind, tiny, dtype)
    before = {key: tensor.clone() for key, tensor in tensors.items()}
    found = part.method.quantise(tensors, part.method.candidates(part.config)[0])
    assert {n: (t.shape, t.dtype) for n, t in found.items()} == {n: (t.shape, t.dtype) for n, t in tensors.items()}
    assert all(torch.equal(tensors[key], tensor) for key, tensor in before.items()), "its argument is not its own"


@pytest.mark.parametrize("name", DELTA)
@pytest.mark.parametrize("dtype", contract.DTYPES, ids=str)
def test_what_is_encoded_is_decoded_bit_for_bit_and_is_smaller(tiny, kind, tmp_path, name, dtype):
    part, tensors = contract.part("compressors", name), delta(kind, tiny, dtype)
    for candidate in part.method.candidates(part.config):
        quantised = part.method.quantise(tensors, candidate)
        save_file(part.method.encode(quantised), tmp_path / "delta.safetensors")
        found = part.method.decode(load_file(tmp_path / "delta.safetensors"))
        assert found.keys() == tensors.keys()
        assert all(torch.equal(found[key], tensor) for key, tensor in quantised.items())
        assert (tmp_path / "delta.safetensors").stat().st_size < sum(t.nbytes for t in tensors.values())


@pytest.mark.parametrize("name", DELTA)
def test_every_candidate_is_one_of_its_own_candidates(name):
    part = contract.part("compressors", name)
    found = part.method.candidates(part.config)
    assert found
    for candidate in found:
        assert type(candidate) is part.spec.config
        assert part.method.candidates(candidate) == [candidate]


@pytest.fixture
def stored(tiny, tmp_path, kind):
    """A model, the tokenizer beside it, and the folder that a compressor made of both."""

    def of(name, folder="stored"):
        part, model = contract.part("compressors", name), contract.model(kind, tiny).eval()
        tokenizer = checkpoints.load_tokenizer(tiny)
        (tmp_path / folder).mkdir()
        part.method.write(model, tokenizer, tmp_path / folder, part.config)
        return model, tokenizer, tmp_path / folder

    return of


@pytest.mark.parametrize("name", WEIGHT)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_model_that_is_opened_is_nearly_the_one_that_was_stored(stored, name, dtype):
    model, _, folder = stored(name)
    found, _ = methods.load("compressors", name).read(folder, dtype, "cpu")
    assert type(found) is type(model)
    assert not found.training
    assert found.num_parameters() == model.num_parameters()
    tolerance = contract.said(name, "TOLERANCE") + (0.02 if dtype == "bfloat16" else 0)
    torch.testing.assert_close(contract.losses(found).float(), contract.losses(model), rtol=0, atol=tolerance)
    ids = torch.tensor([[3, 1, 4, 1, 5]])
    assert found.generate(ids, max_new_tokens=4, do_sample=False, pad_token_id=0).shape == (1, 9)


@pytest.mark.parametrize("name", WEIGHT)
def test_the_tokenizer_comes_back_too(stored, name):
    _, tokenizer, folder = stored(name)
    _, found = methods.load("compressors", name).read(folder, "float32", "cpu")
    turns = [{"role": "user", "content": "Grüße\n\t 12"}]
    for words in (tokenizer, found):
        words.text = words.apply_chat_template(turns, tokenize=False)
    assert found.text == tokenizer.text
    assert found(found.text)["input_ids"] == tokenizer(tokenizer.text)["input_ids"]
    assert (found.eos_token, found.pad_token) == (tokenizer.eos_token, tokenizer.pad_token)


@pytest.mark.parametrize("name", WEIGHT)
def test_the_same_model_gives_the_same_bytes_without_a_path_or_a_pickle(stored, tiny, tmp_path, name):
    _, _, first = stored(name, "first")
    _, _, again = stored(name, "again")
    assert digests(first) == digests(again)
    assert {file.suffix for file in first.iterdir()} <= {".json", ".jinja", ".safetensors", ".gguf"}
    assert checkpoints.weights(first)
    for file in first.iterdir():
        for path in (tmp_path, tiny):
            assert str(path).encode() not in file.read_bytes(), file.name


@pytest.mark.parametrize("name", WEIGHT)
def test_storing_leaves_the_model_as_it_was(stored, tiny, name, kind):
    model, _, _ = stored(name)
    assert torch.equal(contract.losses(model), contract.losses(contract.model(kind, tiny)))
