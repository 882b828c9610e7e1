"""Activation checkpointing keeps less and changes nothing: losses and weights are those without it, to the bit."""

import hashlib
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save

from tasks.core.training import Training
from tasks.core.weights import activations, surgery
from tasks.engine.forward import use_packed_attention
from tasks.engine.training import compose
from tasks.engine.training import train as engine
from tasks.io.weights import checkpoints
from tests import tiny as small
from tests.methods import contract, deep
from tests.methods.contract import composition, part

PLAN = Training(pack_tokens=48, accumulation=2, max_tokens=600, epochs=4, warmup=0.0, save_every=2)
SEQUENCES = [small.paired(sequence) for sequence in small.sequences(24, seed=4)]
COMPOSITIONS = {
    "full": {},
    "lora, dropout": {"adapters": "lora"},
    "mola": {"adapters": "mola"},  # dropout, and a penalty of what its layers note
    "dept": {"adapters": "dept"},  # a prompt shifts the boundaries
    "biadaptformer": {"adapters": "biadaptformer"},
    "soka": {"adapters": "soka"},
    "mhr": {"adapters": "mhr"},
    "sherl": {"adapters": "sherl"},
    "pat": {"adapters": "pat"},
    "mosa × consistency": {"adapters": "mosa", "objectives": "consistency"},  # each look has its own row
    "lisa": {"selectors": "lisa"},
    "spiel": {"selectors": "spiel"},  # sees the dense gradients
    "adept": {"expanders": "adept"},
    "lora × ist": {"adapters": "lora", "selectors": "ist"},
    "fait": {"objectives": "fait"},
    "dpo": {"objectives": "dpo"},  # two passes a step
    "mezo": {"optimizers": "mezo"},  # none backward
    "nf4 × lora": {"bases": "nf4", "adapters": "lora"},
    "mhr × lemo": {"adapters": "mhr", "sparsifiers": "lemo"},  # each layer has a row of its own
}
BF16 = ["full", "mola", "dept"]
"""Those tried in bf16 too."""


def parts(name):
    chosen = composition(**COMPOSITIONS[name])
    if name == "lora, dropout":
        chosen = replace(chosen, adapter=part("adapters", "lora", dropout=0.3))
    if name == "mhr × lemo":
        few = replace(chosen.adapter, config=chosen.adapter.config.model_copy(update={"targets": ("q_proj", "v_proj")}))
        chosen = replace(chosen, adapter=few, sparsifier=part("sparsifiers", "lemo", blocks="random"))
    if name == "full":
        chosen = replace(chosen, optimizer=part("optimizers", "adamw", learning_rate=1e-2))
    return chosen


def train(model, chosen, work, *, checkpointing, compute=small.FP32, on_step=lambda _: None):
    """The losses of a training, and the SHA-256 of what may have moved."""
    plan = PLAN.model_copy(update={"activation_checkpointing": checkpointing})
    data = engine.TrainData(SEQUENCES, {"valid": SEQUENCES[:4]}, small.sequences(4, seed=5))
    result = engine.train(model.train(), data, chosen, plan, compute, work, on_step=on_step)
    tensors = {name: tensor.detach().contiguous() for name, tensor in result.attached.trainable.items()}
    return result.losses, result.measured, hashlib.sha256(save(tensors)).hexdigest()


def loaded(tiny, chosen):
    return checkpoints.load(tiny, quantization=chosen.base.method.quantization(chosen.base.config))[0]


@pytest.mark.parametrize(
    ("name", "compute"),
    [(name, small.FP32) for name in COMPOSITIONS] + [(name, small.BF16) for name in BF16],
    ids=lambda value: getattr(value, "precision", value),
)
def test_losses_and_weights_are_those_without_it(tiny, tmp_path, name, compute):
    chosen = parts(name)
    plain, checkpointed = (
        train(loaded(tiny, chosen), chosen, tmp_path / str(kept), checkpointing=kept, compute=compute)
        for kept in (False, True)
    )
    assert len(plain[0]) > 3
    assert checkpointed == plain


def test_the_dropout_of_a_model_is_drawn_once(tmp_path):
    plain, checkpointed, undropped = (
        train(gpt2(rate), composition(), tmp_path / f"{kept}{rate}", checkpointing=kept)
        for kept, rate in ((False, 0.2), (True, 0.2), (True, 0.0))
    )
    assert checkpointed == plain
    assert undropped != plain


def gpt2(rate):
    """A GPT-2 with dropout of attention, of embeddings and behind both halves of a layer."""
    model = small.gpt2()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = rate
    return model


def test_a_training_that_was_killed_goes_on_with_it(tiny, tmp_path):
    chosen = parts("lora, dropout")

    def copy(metrics):
        if metrics.step == 3:
            shutil.copytree(tmp_path / "straight", tmp_path / "killed")

    straight = train(loaded(tiny, chosen), chosen, tmp_path / "straight", checkpointing=False, on_step=copy)
    assert (tmp_path / "killed/checkpoint-2").is_dir()
    assert train(loaded(tiny, chosen), chosen, tmp_path / "killed", checkpointing=True) == straight


def saved_bytes(model):
    """The bytes that a pass over a row keeps for going backward, each storage once, weights left out."""
    use_packed_attention(model)
    weights = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    storages = {}

    def note(tensor):
        if tensor.untyped_storage().data_ptr() not in weights:
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    row = contract.batch()
    inputs = {name: row[name] for name in ("input_ids", "position_ids", "boundaries")}
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        model.get_decoder()(**inputs, use_cache=False).last_hidden_state.sum()
    return sum(storage.nbytes() for storage in storages.values())


@pytest.mark.parametrize("layers", [2, 6])
def test_a_layer_keeps_its_input_alone(layers):
    def growth(*, checkpointed):
        """The bytes that further layers add, one on the other, beside what lies outside of them."""
        sizes = []
        for number in (layers, layers + 1):
            model = deep.llama(number).train()
            if checkpointed:
                with activations.checkpointed(model):
                    sizes.append(saved_bytes(model))
            else:
                sizes.append(saved_bytes(model))
        return sizes[1] - sizes[0]

    tokens = contract.batch()["input_ids"].shape[1]
    of_input = 4 * tokens * deep.SIZES["hidden_size"]
    assert growth(checkpointed=True) == of_input
    assert growth(checkpointed=False) > 8 * of_input


def test_afterwards_the_model_is_as_it_was():
    model = deep.llama(2)
    with activations.checkpointed(model):
        assert all("forward" in vars(layer) for layer in surgery.decoder_layers(model))
    assert not any("forward" in vars(layer) for layer in surgery.decoder_layers(model))
    assert not activations.is_recomputing()


def test_no_layer_of_mola_holds_the_graph_of_a_pass_that_is_over(tiny):
    attached = compose.compose(contract.model("llama", tiny), composition(adapters="mola"), contract.probe(), seed=0)
    with activations.checkpointed(attached.model):
        attached.model.train()(**contract.batch())["loss"].backward()
    layers = [module for module in attached.model.modules() if hasattr(module, "router_EI")]
    assert layers
    assert all(layer.load is None and layer.router_EI.grad is not None for layer in layers)
