"""Pairs of answers and a model of sine waves, for which TRL computed losses, for the tests of objectives on whole answers.

`trl_numbers.py` writes `data/<objective>.json`: the losses, the settings, and under `source` the version of TRL and its functions that were called.
"""

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tasks.core.compute import Compute
from tasks.core.sequences import Encoded
from tasks.engine import device
from tasks.engine.encode import encoder
from tasks.engine.forward import bind_loss
from tasks.engine.packing import Pack, collate
from tasks.engine.training.reference import with_reference
from tasks.stages.fetch.random_init import byte_tokenizer
from tests.methods.contract import part
from tests.methods.official import wave

PAIRS = [
    ([3, 14, 15], [9, 26, 5, 35], [8, 9, 7]),
    ([2, 7, 18, 28], [1, 8], [28, 45, 9, 0, 45]),
    ([31, 41, 5], [9, 2, 6], [5, 35, 8]),
]
"""Prompt, better answer, worse answer."""
FP32 = Compute(precision="fp32", threads=1)


def model(phase):
    """Return a LLaMA of one layer in which every weight is a point of a sine wave."""
    sizes = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 24, "max_position_embeddings": 32}
    made = LlamaForCausalLM(LlamaConfig(**sizes, num_hidden_layers=1, num_attention_heads=2))
    with torch.no_grad():
        for number, parameter in enumerate(made.parameters()):
            parameter.copy_(0.5 * wave(*parameter.shape, phase=phase + number))
    return made.eval()


def sequence(prompt, answer, **fields):
    return Encoded("pair", [*prompt, *answer], [0.0] * len(prompt) + [1.0] * len(answer), **fields)


def pairs():
    return [sequence(prompt, good, auxiliary=(sequence(prompt, bad),)) for prompt, good, bad in PAIRS]


def loss(name, sequences, folder, settings, *, phases=(0.0, 0.5), compute=FP32):
    """Return the loss of one pack under an objective, with the reference measured as in a training. `phases` are those of model and reference."""
    objective = part("objectives", name, **settings)
    if objective.spec.reference:
        sequences = with_reference(model(phases[1]), sequences, {}, compute, folder)
    bound = model(phases[0])
    bind_loss(bound, objective, part("adapters", "none"))
    with device.autocast(compute):
        return bound(**collate([Pack(tuple(sequences))], columns=objective.spec.columns))["loss"]


def same(found, expected):
    """Assert that a loss equals that of TRL."""
    torch.testing.assert_close(found.item(), expected, rtol=1e-5, atol=0)


def encoded(name, row, *, faults=(), tokenizer=None, max_tokens=200, **settings):
    """Return the sequences of an example under an objective."""
    objective = part("objectives", name, **settings)
    tools = encoder(tokenizer or byte_tokenizer())
    return objective.method.encode(row, faults, tools, max_tokens, objective.config).sequences


def text(sequence, *, trained=False):
    """Return the text of a sequence of bytes, or its trained part."""
    ids = [t for t, weight in zip(sequence.ids, sequence.weights, strict=True) if weight > 0 or not trained]
    return byte_tokenizer().decode(ids)
