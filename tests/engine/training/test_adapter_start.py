"""An adapter is handed its start, acts before steps, and has what it holds kept; a training starts from one on disk."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from tasks.core.training import SavedAdapter
from tasks.core.weights.surgery import decoder_layers
from tasks.engine.training import checkpointing, compose, start, store
from tasks.engine.training import train as engine
from tasks.io import pinned
from tasks.io.weights import checkpoints
from tests import tiny as small
from tests.engine.training.test_train import LORA, PLAN, SEQUENCES, Killed, change
from tests.methods import contract

SHIFT = 0.125
"""Added to every decoder layer's output before each step."""


def shifting(seen):
    """LoRA, beside a shift of each decoder layer that no gradient moves; `seen` takes the starts that it is handed."""

    def attach(model, config, begun):
        seen.append(begun)
        for layer in decoder_layers(model):
            layer.register_buffer("shift", torch.zeros(1))
            layer.register_forward_hook(lambda layer, _, output: output + layer.shift)
        return LORA.adapter.method.attach(model, config, begun)

    def on_step(moment, config):
        moment.state["steps"] = moment.state.get("steps", 0) + 1
        for layer in decoder_layers(moment.model):
            layer.shift += SHIFT

    spec = replace(LORA.adapter.spec, held=("shift",), undecayed=("lora_B",), acts_between_steps=True)
    return replace(
        LORA,
        adapter=replace(LORA.adapter, spec=spec, method=replace(LORA.adapter.method, attach=attach, on_step=on_step)),
    )


def train(base, work, parts, kill_at=None, **data):
    """The result of a training with two probes' worth of data, or Killed."""

    def on_step(metrics):
        if metrics.step == kill_at:
            raise Killed

    few = engine.TrainData(SEQUENCES[:12], **data)
    return engine.train(
        small.load(base).train(), few, parts, change(PLAN, epochs=3, seed=3), small.FP32, work, on_step=on_step
    )


def test_an_adapter_is_handed_the_probe_and_the_seed(tiny, tmp_path):
    seen = []
    train(tiny, tmp_path, shifting(seen), probe=SEQUENCES[20:23])
    (begun,) = seen
    assert begun.seed == 3
    assert begun.tensors == {}
    seen_ids = [token for batch in begun.probe.batches for token in batch["input_ids"].flatten().tolist()]
    assert sorted(seen_ids) == sorted(token for sequence in SEQUENCES[20:23] for token in sequence.ids)


def test_what_an_adapter_holds_and_notes_is_in_checkpoints(tiny, tmp_path):
    straight = train(tiny, tmp_path / "straight", shifting([]))
    with pytest.raises(Killed):
        train(tiny, tmp_path / "killed", shifting([]), kill_at=4)
    checkpoint = checkpointing.newest_complete(tmp_path / "killed")
    step = int(checkpoint.name.rsplit("-", 1)[1])
    kept = load_file(checkpoint / checkpointing.KEPT)
    assert kept == {name: torch.full((1,), step * SHIFT) for name in straight.attached.kept}
    resumed = train(tiny, tmp_path / "killed", shifting([]))
    both = [{**result.attached.trainable, **result.attached.kept} for result in (straight, resumed)]
    assert all(torch.equal(both[1][name], tensor) for name, tensor in both[0].items())
    assert straight.losses == resumed.losses


def test_what_an_adapter_exempts_does_not_decay(tiny):
    parts = shifting([])
    attached = compose.compose(small.load(tiny), parts, contract.probe(), 0)
    names = {parameter: name for name, parameter in attached.trainable.items()}
    by_decay = {
        decay: {
            names[p].split(".")[-3]
            for group in compose.groups(attached, parts)
            if group.decay == decay
            for p in group.parameters
        }
        for decay in (True, False)
    }
    assert by_decay == {True: {"lora_A"}, False: {"lora_B"}}


@pytest.fixture
def saved(tiny, tmp_path):
    """The folder of a LoRA with its card, and the setting that names it."""
    attached, optimizer = contract.composed(small.load(tiny), LORA)
    contract.steps(attached, optimizer, LORA)
    folder = tmp_path / "saved"
    store.save(attached, LORA, None, folder)
    settings = {"methods": {"lora": LORA.adapter.config.model_dump(mode="json")}}
    checkpoints.write_card(folder, method=LORA.names, settings=settings, parent=checkpoints.weights_digest(tiny))
    return SavedAdapter(path=str(folder), digest=pinned.digest(folder))


def test_a_training_starts_from_the_adapter_on_disk(tiny, tmp_path, saved):
    folder = start.folder_of(saved, tiny, LORA.adapter)
    begun = train(tiny, tmp_path / "begun", LORA, adapter=folder)
    fresh = train(tiny, tmp_path / "fresh", LORA)
    assert begun.losses[0] != fresh.losses[0]
    with pytest.raises(Killed):
        train(tiny, tmp_path / "killed", LORA, kill_at=4, adapter=folder)
    resumed = train(tiny, tmp_path / "killed", LORA, adapter=folder)
    assert all(torch.equal(resumed.attached.trainable[name], p) for name, p in begun.attached.trainable.items())


def test_a_folder_without_an_adapter_is_refused(tiny, saved):
    for path in (tiny, tiny / "nowhere"):
        with pytest.raises(ValueError, match=r"holds no adapter\. Name in tune\.start\.path"):
            start.folder_of(saved.model_copy(update={"path": str(path)}), tiny, LORA.adapter)


def test_an_adapter_that_is_not_the_pinned_one_is_refused_with_its_digest(tiny, saved):
    with pytest.raises(
        ValueError, match=rf"what tune\.start\.digest names \(nothing\).*write `digest: {saved.digest}`"
    ):
        start.folder_of(saved.model_copy(update={"digest": ""}), tiny, LORA.adapter)


def test_an_adapter_of_another_base_is_refused(saved, tmp_path):
    (tmp_path / "other").mkdir()
    other = small.fetch(tmp_path / "other", {"from": "config", "layers": 3})["base"]
    with pytest.raises(ValueError, match=r"was trained on weights"):
        start.folder_of(saved, other, LORA.adapter)


@pytest.mark.parametrize("name", ["none", "mola"])
def test_an_adapter_of_another_method_is_refused(tiny, saved, name):
    with pytest.raises(ValueError, match=rf"is an adapter of method lora, and tune\.adapter is {name}\."):
        start.folder_of(saved, tiny, contract.part("adapters", name))


def test_an_adapter_of_other_settings_is_refused(tiny, saved):
    other = contract.part("adapters", "lora", rank=4, dropout=0.1, alpha=7)
    with pytest.raises(ValueError, match=r"was trained with methods\.lora\.alpha: 32\.0, and it is 7\.0 now"):
        start.folder_of(saved, tiny, other)


@pytest.mark.filterwarnings("ignore:The following .*_pattern keys:RuntimeWarning")  # of peft, though they match
def test_a_training_goes_on_from_an_adapter_of_experts(tmp_path):
    sizes = {"vocab_size": 259, "head_dim": 8, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
    parts = contract.composition(adapters="lora")
    attached, optimizer = contract.composed(small.family("qwen3_moe", **sizes), parts)
    contract.steps(attached, optimizer, parts)
    store.save(attached, parts, None, tmp_path / "first")
    tensors = checkpoints.read_adapter(tmp_path / "first")
    assert any(".experts." in name for name in tensors)
    begun, _ = contract.composed(small.family("qwen3_moe", **sizes), parts)
    checkpoints.fill(begun.model, "lora", tensors, tmp_path / "first")
    for name, tensor in attached.trainable.items():
        torch.testing.assert_close(begun.trainable[name], tensor)
