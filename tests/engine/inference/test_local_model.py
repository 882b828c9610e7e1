"""A model that works on batches travels to nodes without its weights, and is loaded there once."""

import pickle
from pathlib import Path

import pytest

from tasks.core.compute import Compute
from tasks.engine.inference import local_model, scoring
from tasks.engine.inference.local_model import LocalModel
from tasks.io.system.workers import WORTH, Workers

ROOT = Path(__file__).resolve().parents[3]
loads = []


def load(folder, *_, **__):
    """A model and a tokenizer, which would not travel."""
    loads.append(folder)
    return (lambda: "a model"), None


def twice(loaded, number):
    """Work with the model."""
    assert loaded.model() == "a model"
    return 2 * number


@pytest.fixture
def local(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    loads.clear()
    local_model._first_equal.cache_clear()
    return LocalModel(tmp_path, None, load, Compute(threads=1))


def test_a_process_of_a_node_loads_the_model_once_although_each_batch_comes_with_a_copy(local):
    assert local.loaded.model() == "a model"
    for number in range(3):
        assert local_model.on_node(pickle.loads(pickle.dumps(local)), local.weights, twice, number) == 2 * number
    assert loads == [local.folder] * 2, "here, and there"


def test_other_weights_on_a_node_are_named(local):
    expected = local.weights
    (local.folder / "model.safetensors").write_bytes(b"others")
    with pytest.raises(ValueError, match=r"has other weights at \S+ in .* than this machine\. Share the workspace"):
        local_model.on_node(pickle.loads(pickle.dumps(local)), expected, twice, 1)
    assert not loads


def test_without_a_cluster_or_with_few_batches_the_model_works_here_and_is_loaded_for_the_first(local, monkeypatch):
    with Workers() as workers:
        assert list(local.on(workers)(twice, [], 0)) == []
        assert not loads, "nothing needed it"
        assert list(local.on(workers)(twice, range(WORTH), WORTH)) == [0, 2, 4, 6, 8, 10, 12, 14]
        monkeypatch.setenv("RATCHET_RAY", "nowhere:1")
        assert list(local.on(workers)(twice, range(WORTH - 1), WORTH - 1)) == [0, 2, 4, 6, 8, 10, 12]
    assert loads == [local.folder]


def test_a_node_is_asked_for_the_code_of_the_work_and_of_its_way_there(monkeypatch):
    monkeypatch.chdir(ROOT)
    work, seam = "tasks.engine.inference.scoring", "tasks.engine.inference.local_model"
    both = local_model._identity_of(work, seam)
    assert both["code"] not in {local_model._identity_of(module, module)["code"] for module in (work, seam)}
    assert both["torch"]
    assert local_model.module_of(scoring.of_pack) == work
