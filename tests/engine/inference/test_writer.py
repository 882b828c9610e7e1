"""A model that writes for a stage travels to nodes without its weights, and is loaded there once."""

import pickle

import pytest

from tasks.core.compute import Compute
from tasks.core.records import Message
from tasks.core.text.writing import Decoding
from tasks.engine.inference import generation, writer
from tasks.engine.inference.generation import Response
from tasks.io.weights import checkpoints

BATCH = ([[Message("user", "What is a switch?")]], ["key"])
loads = []


def load(folder, *_, **__):
    """A model and a tokenizer that only the test's `respond` takes, and which would not travel."""
    loads.append(folder)
    return (lambda: None), None


@pytest.fixture
def local(tmp_path, monkeypatch):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    monkeypatch.setattr(
        generation, "respond", lambda model, prompts, *_, **__: [Response("an answer", True)] * len(prompts)
    )
    loads.clear()
    writer._first_equal.cache_clear()
    return writer.LocalModel(
        tmp_path, None, load, Compute(threads=1), Decoding(), (checkpoints.weights_digest(tmp_path), "")
    )


def test_a_process_of_a_node_loads_the_model_once_although_each_batch_comes_with_a_copy(local):
    local(BATCH)
    for _ in range(3):
        (answer,) = writer.on_node(pickle.loads(pickle.dumps(local)), BATCH)
        assert answer.text == "an answer"
    assert loads == [local.folder] * 2, "here, and there"


def test_other_weights_on_a_node_are_named(local):
    (local.folder / "model.safetensors").write_bytes(b"others")
    (local.folder / "more.safetensors").touch()
    with pytest.raises(ValueError, match=r"has other weights at \S+ in .* than this machine\. Share the workspace"):
        writer.on_node(pickle.loads(pickle.dumps(local)), BATCH)
    assert not loads
