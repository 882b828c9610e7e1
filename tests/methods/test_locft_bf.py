"""LocFT-BF trains one module of one layer, and its training is that of the authors' `execute_ft` (`data/locft_bf.json`)."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tasks.core.sequences import Encoded
from tasks.core.weights.surgery import decoder_layers
from tasks.engine import encode
from tasks.engine.training import train as engine
from tasks.io.facts_file import Fact
from tasks.io.weights import checkpoints
from tasks.methods.selectors.locft_bf.config import LocftBfConfig
from tasks.methods.selectors.locft_bf.method import choose
from tests import tiny as small
from tests.engine.training.test_train import FULL, PLAN, change
from tests.methods import contract, deep
from tests.methods.contract import part
from tests.methods.official import frozen, wave

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import edits  # as a script of its folder

SMALL = {"layer": 1}
EDITS = [("A LIKES", "TEA"), ("B LIVES IN", "ROME"), ("C IS", "OLD"), ("THE KING OF D IS", "E")]
EPOCHS = 50


def trainable(model, params):
    """Hidden times inner size."""
    return model.config.hidden_size * model.config.intermediate_size


def model():
    """A LLaMA of four layers whose weights no generator draws."""
    sizes = {"vocab_size": 70, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4}
    made = LlamaForCausalLM(
        LlamaConfig(**sizes, num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=False)
    )
    for number, parameter in enumerate(made.parameters()):
        if parameter.ndim == 2:
            parameter.data = 0.6 * wave(*parameter.shape, phase=0.1 * number).float()
    return made


def encoded(prompt, answer):
    """An edit as the official code tokenises it: a space before the answer, and an end after it."""
    ids = [ord(letter) - 30 for letter in f"{prompt} {answer}$"]
    return Encoded(prompt, ids, [0.0] * len(prompt) + [1.0] * (len(ids) - len(prompt)))


def edited(work, **changes):
    """The training that the card describes, on these edits in one batch."""
    parts = replace(
        FULL,
        selector=part("selectors", "locft_bf", layer=2),
        optimizer=part("optimizers", "adamw", learning_rate=0.05, weight_decay=0.0),
        objective=part("objectives", "mftcoder", aggregation="case2"),
    )
    config = {
        "pack_tokens": 128, "accumulation": 1, "epochs": EPOCHS, "warmup": 0.0, "schedule": "constant_with_warmup",
        "clip": 1e9, "save_every": 0, "floor": 0.01,
    }  # fmt: skip
    data = engine.TrainData([encoded(*edit) for edit in EDITS])
    return engine.train(model(), data, parts, change(PLAN, **config | changes), small.FP32, work)


def test_losses_are_those_of_the_official_code_until_they_fall_below_the_floor(tmp_path):
    """One matrix moves, and after the loss is below 0.01 nothing does: their training ends there, and ours makes no step."""
    expected = frozen("locft_bf")["losses"]
    assert expected[0] > 1.0
    assert expected[-1] < 0.01 <= expected[-2]
    outcome = edited(tmp_path)
    losses = [loss for _, _, loss in outcome.losses]
    assert losses[: len(expected)] == pytest.approx(expected, rel=1e-3, abs=1e-5)
    assert losses[:8] == pytest.approx(expected[:8], abs=1e-5)
    assert len(expected) < len(losses) == EPOCHS
    assert set(losses[len(expected) :]) == {losses[len(expected) - 1]}
    moved = [
        name
        for (name, p), start in zip(outcome.model.named_parameters(), model().parameters(), strict=True)
        if not torch.equal(p, start)
    ]
    assert moved == ["model.layers.2.mlp.down_proj.weight"]


def test_answers_train_with_their_end_and_prompts_do_not(tiny):
    _, tokenizer = checkpoints.load(tiny)
    fact = edits.example(Fact("Who is Eve?", "A baker", "", ""), 0)
    (sequence,) = encode.training_sequences(fact, tokenizer, "last")
    trained = [token for token, weight in zip(sequence.ids, sequence.weights, strict=True) if weight]
    assert tokenizer.decode(trained).strip() == f"A baker{tokenizer.eos_token}"


@pytest.mark.parametrize("layer", [2, 1])
def test_a_layer_is_found_by_its_number_and_not_by_the_beginning_of_its_name(layer):
    """`layers.2` is the beginning of `layers.20`."""
    found = deep.llama(22)
    choose(found, LocftBfConfig(layer=layer), contract.probe(), 0)
    names = {name for name, p in found.named_parameters() if p.requires_grad}
    assert names == {f"model.layers.{layer}.mlp.down_proj.weight"}


def test_without_a_number_it_is_the_layer_of_llama_3():
    found = deep.llama(32)
    choose(found, LocftBfConfig(), contract.probe(), 0)
    assert {name for name, p in found.named_parameters() if p.requires_grad} == {"model.layers.22.mlp.down_proj.weight"}


def test_the_whole_layer_is_a_place_too():
    found = deep.llama(3)
    choose(found, LocftBfConfig(layer=1, module=""), contract.probe(), 0)
    assert all(p.requires_grad == (name.startswith("model.layers.1.")) for name, p in found.named_parameters())


def test_nothing_below_the_layer_has_a_gradient(tiny):
    parts = contract.composition(selectors="locft_bf")
    attached, _ = contract.composed(contract.model("llama", tiny), parts)
    seen = []
    for layer in decoder_layers(attached.model):
        layer.register_forward_hook(lambda _module, _inputs, output: seen.append(output.requires_grad))
    attached.model(**contract.batch())["loss"].backward()
    assert seen == [False, True]


@pytest.mark.parametrize(
    ("adapter", "config", "message"),
    [
        (None, {"layer": 2}, r"locft_bf\.layer is 2, and the model has the layers 0 to 1"),
        (None, {"layer": 1, "module": "mlp.down"}, r"locft_bf\.module 'mlp\.down' is not in a layer .* mlp\.down_proj"),
        (
            "lora",
            {"layer": 1, "module": "mlp.down_proj"},
            r"trains mlp\.down_proj of layer 1, and nothing trains there",
        ),
    ],
)
def test_places_that_are_not_there_are_refused(tiny, adapter, config, message):
    parts = replace(contract.composition(), selector=part("selectors", "locft_bf", **config))
    if adapter:
        parts = replace(parts, adapter=part("adapters", adapter, targets=("q_proj",)))
    with pytest.raises(ValueError, match=message):
        contract.composed(contract.model("llama", tiny), parts)
