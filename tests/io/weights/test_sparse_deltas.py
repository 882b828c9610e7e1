"""Sparse differences are small files that are written, added, subtracted, merged and compressed."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from tasks.core.weights import sparse
from tasks.core.weights.merging import Merge
from tasks.core.weights.sparse import Entries
from tasks.engine.training import store
from tasks.io.weights import checkpoints, merges, sparse_deltas
from tasks.io.weights.merges import Expert
from tests.methods import contract


@pytest.fixture(scope="module")
def tuned(tiny, tmp_path_factory):
    """Two models that NeuroAda has made of the tiny one, with one and with three entries a row."""

    def made(k):
        folder = tmp_path_factory.mktemp("tuned") / f"k{k}"
        parts = contract.composition(selectors="neuroada")
        parts = replace(parts, selector=contract.part("selectors", "neuroada", k=k))
        attached, optimizer = contract.composed(contract.model("llama", tiny), parts)
        contract.steps(attached, optimizer, parts)
        store.save(attached, parts, checkpoints.load_tokenizer(tiny), folder)
        return folder

    return made(1), made(3)


def weights(folder):
    return dict(AutoModelForCausalLM.from_pretrained(folder).named_parameters())


def written(tmp_path, tiny, tuned):
    for number, folder in enumerate(tuned):
        sparse_deltas.write(tmp_path / f"{number}.safetensors", folder, tiny)
    return [tmp_path / f"{number}.safetensors" for number in range(len(tuned))]


def test_a_difference_is_a_small_file_that_leads_back_to_the_tuned_model(tiny, tmp_path, tuned):
    first, _ = written(tmp_path, tiny, tuned)
    difference, parent = sparse_deltas.read(first)
    assert parent == checkpoints.weights_digest(tiny)
    entries = sum(len(one.index) for one in difference.values())
    assert 0 < 8 * entries < first.stat().st_size < 8 * entries + 4096
    assert first.stat().st_size < 0.1 * (tuned[0] / "model.safetensors").stat().st_size
    merges.write(tmp_path / "merged", tiny, [Expert(first)], Merge())
    for name, weight in weights(tmp_path / "merged").items():
        torch.testing.assert_close(weight, weights(tuned[0])[name], rtol=0, atol=1e-7)


def test_differences_are_added_and_subtracted(tiny, tmp_path, tuned):
    first, second = written(tmp_path, tiny, tuned)
    sparse_deltas.add(tmp_path / "both.safetensors", [(first, 1.0), (second, 0.5)])
    assert sparse_deltas.add(tmp_path / "none.safetensors", [(second, 1.0), (second, -1.0)]) == {}
    difference, parent = sparse_deltas.read(tmp_path / "both.safetensors")
    assert parent == checkpoints.weights_digest(tiny)
    base, one, other = (weights(folder) for folder in (tiny, *tuned))
    dense = sparse.dense(difference)
    for name, weight in base.items():
        expected = one[name] - weight + 0.5 * (other[name] - weight)
        torch.testing.assert_close(dense.get(name, torch.zeros_like(weight)), expected, rtol=0, atol=1e-6)


def test_compeft_takes_a_difference(tiny, tmp_path, tuned):
    (first, _), part = written(tmp_path, tiny, tuned), contract.part("compressors", "compeft")
    difference, _ = sparse_deltas.read(first)
    (config, *_) = part.method.candidates(part.config)
    quantised = part.method.quantise(sparse.dense(difference), config)
    save_file(part.method.encode(quantised), tmp_path / "compeft.safetensors")
    assert (tmp_path / "compeft.safetensors").stat().st_size < first.stat().st_size
    kept = [(quantised[name] != 0).flatten() for name in difference]
    allowed = [
        torch.zeros_like(flags).index_fill(0, difference[name].index, True)
        for name, flags in zip(difference, kept, strict=True)
    ]
    assert all(not (flags & ~free).any() for flags, free in zip(kept, allowed, strict=True))
    assert any(flags.any() for flags in kept)


def test_what_does_not_fit_is_refused_in_one_sentence(tiny, tmp_path, tuned):
    first, _ = written(tmp_path, tiny, tuned)
    other = {"w": Entries(torch.tensor([0]), torch.tensor([1.0]), (2, 3))}
    sparse_deltas.save(tmp_path / "other.safetensors", other, "0" * 64)
    with pytest.raises(
        ValueError, match=r"other.safetensors is a difference to weights 0+, and .*0.safetensors to \w+"
    ):
        sparse_deltas.add(tmp_path / "sum", [(first, 1.0), (tmp_path / "other.safetensors", 1.0)])
    with pytest.raises(ValueError, match="in one difference and"):
        sparse.add(other, {"w": Entries(torch.tensor([0]), torch.tensor([1.0]), (3, 2))})
    with pytest.raises(ValueError, match="does not have one shape in both models"):
        sparse.between({"w": torch.zeros(2)}, {"w": torch.zeros(3)})
    save_file({"w": torch.zeros(2)}, tmp_path / "plain.safetensors")
    with pytest.raises(ValueError, match="is not a sparse difference"):
        sparse_deltas.read(tmp_path / "plain.safetensors")


def test_the_command_writes_and_adds(tiny, tmp_path, tuned, capsys):
    from flows.commands.delta import delta

    first = tmp_path / "first.safetensors"
    delta([str(tuned[0])], to=first, base=tiny)
    assert "entries of" in capsys.readouterr().out
    delta([str(first), f"{first}:-0.5"], to=tmp_path / "half.safetensors", base=tiny)
    whole, half = (sparse_deltas.read(tmp_path / f"{name}.safetensors")[0] for name in ("first", "half"))
    assert whole.keys() == half.keys()
    for name, entries in half.items():
        assert torch.equal(entries.index, whole[name].index)
        torch.testing.assert_close(entries.values, 0.5 * whole[name].values)
    for sources, message in (
        (["nowhere"], "nowhere is neither the folder of a model"),
        ([f"{first}:much"], "'much' is no number"),
        ([str(first), str(tuned[0])], "is a folder, and only files of differences are added"),
    ):
        with pytest.raises(ValueError, match=message):
            delta(sources, to=tmp_path / "other", base=tiny)
    with pytest.raises(ValueError, match="exists"):
        delta([str(tuned[0])], to=first, base=tiny)
