"""ADEPT copies the layers that the probe misses least, and each tensor of a copy learns the slower the more it matters.

`data/adept.json` has what the authors' `expand.py`, `calc_importance.py`, `callbacks.py` and `callback_deepspeed.py` gave.
"""

import json
import random

import pytest
import torch

from tasks.core.sequences import Encoded
from tasks.core.training import Probe
from tasks.core.weights import activations, surgery
from tasks.engine.forward import token_losses
from tasks.engine.packing import Pack, collate
from tasks.methods.expanders._duplicate import duplicate
from tasks.methods.expanders.adept.config import AdeptConfig
from tasks.methods.expanders.adept.method import expand, layer_importance, unit_importance
from tests import tiny as small
from tests.methods import contract, deep
from tests.methods.official import frozen, wave

SMALL = {"layers": 1, "interval": 2}
IDS = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])


def layer_size(config, norms=2, biases=0):
    """d (n_q h + 2 n_kv h) + n_q h d + 3 d d_ff + norms, as the card counts a layer."""
    d, h = config.hidden_size, getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    queries, keys = config.num_attention_heads * h, config.num_key_value_heads * h
    return d * (queries + 2 * keys) + queries * d + 3 * d * config.intermediate_size + norms * d + biases


def trainable(model, params):
    """k layers."""
    config = model.config
    if config.model_type == "gpt2":  # qkv, o and an MLP four times as wide, with biases; two norms of two vectors each
        return params.layers * (12 * config.n_embd**2 + 13 * config.n_embd)
    biases = 2 * config.hidden_size if config.model_type == "qwen2" else 0  # q + k + v of half as many heads
    return params.layers * layer_size(config, biases=biases)


def text(number, length, prompt=1, seed=0):
    """A sequence of random tokens whose first `prompt` tokens train nothing; a plain text's is one."""
    draw = random.Random(f"{seed}/{number}")
    return Encoded(
        f"{number}", [draw.randrange(259) for _ in range(length)], [0.0] * prompt + [1.0] * (length - prompt)
    )


def probe(*packs):
    """A probe of these packs, or of two with plain texts of unequal length."""
    packs = packs or ([text(0, 12), text(1, 5)], [text(2, 9)])
    return contract.looking([collate([Pack(tuple(pack))]) for pack in packs])


def units(model):
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def rated(parameters, rate=1e-4, schedule=lambda step: 1.0):
    """An optimizer with a group for each tensor, as the engine cuts them, and its schedule."""
    groups = [{"params": [parameter], "name": name, "lr": rate} for name, parameter in parameters.items()]
    optimizer = torch.optim.AdamW(groups, lr=rate, weight_decay=0.0)
    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)


def update(model, optimizer):
    """One step on other tokens than the probe's."""
    token_losses(model.train(), contract.batch()).mean().backward()
    optimizer.step()
    optimizer.zero_grad()


def trained(model, params=AdeptConfig(layers=2, interval=1), steps=2):  # noqa: B008  # a frozen record
    """`model` grown, and after a few steps at one rate."""
    expand(model, params, probe(), 0)
    optimizer, _ = rated(units(model), rate=1e-2)
    for _ in range(steps):
        update(model, optimizer)
    return model


def state_of(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def equal(found, expected):
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


# 1. The function stays.

MODELS = {
    "llama": deep.llama,
    "llama with biases": lambda: deep.llama(attention_bias=True, mlp_bias=True),
    "qwen2": small.qwen2,
    "gpt2": deep.gpt2,
    "qwen3": deep.qwen3,
    "qwen3 with a window": lambda: deep.qwen3(window=4),
}


@pytest.mark.parametrize("kind", MODELS)
def test_a_grown_model_computes_what_the_base_computes_with_a_cache_and_without(kind):
    base, grown = MODELS[kind]().eval(), MODELS[kind]().eval()
    duplicate(grown, [0, 1])
    with torch.no_grad():
        assert torch.equal(grown(IDS).logits, base(IDS).logits)
    written = [
        model.generate(IDS, attention_mask=torch.ones_like(IDS), max_new_tokens=6, do_sample=False, pad_token_id=0)
        for model in (grown, base)
    ]
    assert written[0].shape[1] == IDS.shape[1] + 6
    assert torch.equal(*written)


def test_a_copy_hears_of_settings_of_the_model():
    """Attention is switched in the model's config, and a copy that kept its own would look across sequences."""
    grown = deep.llama()
    duplicate(grown, [1])
    layers = surgery.decoder_layers(grown)
    assert all(layer.self_attn.config is grown.config for layer in layers)
    for parameter in layers[2].parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    alone = [probe([text(number, 9)]) for number in range(2)]
    together = probe([text(0, 9), text(1, 9)])
    contract.use_packed_attention(grown)
    apart = torch.cat([part.losses(grown, part.batches[0]) for part in alone])
    torch.testing.assert_close(together.losses(grown, together.batches[0]), apart)


def test_gpt2_whose_layers_depend_on_their_number_is_refused():
    model = small.gpt2()
    model.config.scale_attn_by_inverse_layer_idx = True
    with pytest.raises(ValueError, match="GPT2LMHeadModel scales attention by the layer index"):
        expand(model, AdeptConfig(layers=1), probe(), 0)


def test_more_copies_than_layers_are_refused_before_the_probe_is_asked():
    with pytest.raises(ValueError, match=r"layers=7 are to be copied, and LlamaForCausalLM has 6"):
        expand(deep.llama(6), AdeptConfig(layers=7), Probe([], pytest.fail, pytest.fail), 0)


# 2. The shape is that of a block expansion.


def by_hand(state, chosen, depth):
    """A state dict grown key by key: layer i goes to i + |{j < i}|, its copy to the place above, with writers at zero."""
    grown = {name: tensor for name, tensor in state.items() if ".layers." not in name}
    for layer in range(depth):
        place = layer + sum(other < layer for other in chosen)
        prefix = f"model.layers.{layer}."
        for name, tensor in state.items():
            if name.startswith(prefix):
                rest = name.removeprefix(prefix)
                grown[f"model.layers.{place}.{rest}"] = tensor
                if layer in chosen:
                    writes = "o_proj" in rest or "down_proj" in rest
                    grown[f"model.layers.{place + 1}.{rest}"] = torch.zeros_like(tensor) if writes else tensor
    return grown


@pytest.mark.parametrize("biases", [False, True])
def test_a_non_uniform_expansion_is_that_of_the_state_dict_by_hand(biases):
    model = deep.llama(6, attention_bias=biases, mlp_bias=biases)
    expected = by_hand(state_of(model), [1, 2, 4], 6)
    assert duplicate(model, [1, 2, 4]) == [2, 4, 7]
    assert equal(state_of(model), expected)
    assert any("o_proj.bias" in name for name in expected) == biases


def test_a_non_uniform_expansion_is_that_of_the_official_code_key_by_key():
    """block_expansion of layers 1, 2 and 4 of six: keys, and the base's key that each equals; none for zeros."""
    origins = frozen("adept")["origins"]
    model = deep.llama(6, attention_bias=True, mlp_bias=True)
    before = state_of(model)
    duplicate(model, [1, 2, 4])
    expected = {
        name: torch.zeros_like(found) if origins[name] is None else before[origins[name]]
        for name, found in state_of(model).items()
    }
    assert expected.keys() == origins.keys()
    assert equal(state_of(model), expected)


def test_indices_and_lists_by_layer_follow():
    model = deep.qwen3(window=4)
    assert model.config.layer_types == ["full_attention"] * 2 + ["sliding_attention"] * 2
    duplicate(model, [1, 2])
    assert model.config.layer_types == ["full_attention"] * 3 + ["sliding_attention"] * 3
    assert model.config.num_hidden_layers == 6
    assert [layer.self_attn.layer_idx for layer in surgery.decoder_layers(model)] == list(range(6))
    model.config.validate()


# 3. The probe of layers.


def test_skipping_a_layer_is_zeroing_all_that_it_has():
    model = deep.llama(4).eval()
    before, looked_at = state_of(model), probe()

    def loss():
        with torch.no_grad():
            nll = torch.cat([looked_at.losses(model, batch) for batch in looked_at.batches])
        return nll.double().mean().item()

    whole, zeroed = loss(), []
    for layer in surgery.decoder_layers(model):
        kept = state_of(layer)
        torch.nn.utils.vector_to_parameters(torch.zeros(sum(p.numel() for p in layer.parameters())), layer.parameters())
        zeroed.append(loss() - whole)
        layer.load_state_dict(kept)
    assert equal(state_of(model), before)
    found = layer_importance(model, looked_at)
    assert found == pytest.approx(zeroed, abs=1e-6)
    assert max(found) - min(found) > 0.01, "layers that all matter alike would show nothing"


def test_the_probe_of_layers_leaves_no_trace():
    model = deep.llama(attention_dropout=0.5).train()
    surgery.decoder_layers(model)[3].eval()
    before, modes = state_of(model), [module.training for module in model.modules()]
    torch.manual_seed(5)
    drawn = torch.get_rng_state()
    first = layer_importance(model, probe())
    assert layer_importance(model, probe()) == first
    assert torch.equal(torch.get_rng_state(), drawn)
    assert equal(state_of(model), before)
    assert [module.training for module in model.modules()] == modes
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(layer._forward_hooks for layer in surgery.decoder_layers(model))


def test_the_layers_that_matter_least_are_copied():
    importance = layer_importance(deep.llama(), probe())
    least = sorted(range(6), key=lambda layer: importance[layer])[:3]
    model = deep.llama()
    facts = expand(model, AdeptConfig(layers=3), probe(), 0)
    assert facts["originals"] == sorted(least) != [0, 1, 2]
    assert facts["copies"] == [layer + 1 + sum(other < layer for other in least) for layer in sorted(least)]
    assert facts["importance"] == importance
    assert json.loads(json.dumps(facts)) == facts


def test_layers_are_ranked_by_the_mean_over_tokens_and_by_the_authors_over_batches():
    """PruningImportanceAnalyzer on texts of 40 and of 4 tokens, a batch each: it would copy layer 1 where layer 2 is copied here."""
    texts, official = [numbered(0, 40), numbered(1, 4)], frozen("adept")["layers"]
    apart = [layer_importance(waves(), probe(text)) for text in texts]
    means = [sum(of_layer) / 2 for of_layer in zip(*apart, strict=True)]
    assert means == pytest.approx(official, abs=1e-5)
    found = layer_importance(waves(), probe(*texts))
    assert found == pytest.approx([0.2151, 0.0219, 0.0150], abs=2e-4)
    assert found == pytest.approx([(39 * long + 3 * short) / 42 for long, short in zip(*apart, strict=True)], abs=1e-5)
    assert (found.index(min(found)), official.index(min(official))) == (2, 1)


# 4. The importance of units.


@pytest.mark.parametrize("kind", MODELS)
def test_units_matter_not_at_all_at_first_and_all_matter_after_an_update(kind):
    model = MODELS[kind]()
    expand(model, AdeptConfig(layers=1), probe(), 0)
    assert set(unit_importance(model, units(model), probe()).values()) == {0.0}
    before = state_of(model)
    optimizer, _ = rated(units(model), rate=1e-2)
    update(model, optimizer)
    moved = {
        name.rsplit(".", 2)[1] for name, tensor in state_of(model).items() if not torch.equal(tensor, before[name])
    }
    assert moved == ({"c_proj"} if kind == "gpt2" else {"o_proj", "down_proj"}), "nothing else has a gradient"
    assert all(value > 0 for value in unit_importance(model, units(model), probe()).values())


def test_a_units_importance_is_the_mean_of_size_times_mean_slope():
    model, looked_at = trained(deep.llama(3)), probe()
    slopes = {name: torch.zeros_like(unit) for name, unit in units(model).items()}
    for batch in looked_at.batches:
        model.zero_grad()
        looked_at.losses(model, batch).mean().backward()
        for name, unit in units(model).items():
            slopes[name] += unit.grad.abs() / 2
    expected = {name: (unit.abs() * slopes[name]).mean().item() for name, unit in units(model).items()}
    assert unit_importance(model, units(model), looked_at) == pytest.approx(expected, rel=1e-5)


def waves():
    """The model that the official code was given, of which only layer 1 trains."""
    model = deep.llama(3)
    for number, p in enumerate(model.parameters()):
        p.data = wave(*p.shape, phase=number, dtype=torch.float32)
        p.data = 0.3 * p.data if p.ndim == 2 else 1 + 0.1 * p.data
    model.requires_grad_(False)
    model.model.layers[1].requires_grad_(True)
    return model


def numbered(number, length, prompt=1):
    """A text whose tokens are known."""
    ids = [(37 * n**2 + 11 * number) % 256 for n in range(1, length + 1)]
    return [Encoded(f"{number}", ids, [0.0] * prompt + [1.0] * (length - prompt))]


OFFICIAL = {"pt": [numbered(0, 12), numbered(1, 5)], "sft": [numbered(2, 9, 4), numbered(3, 14, 6)]}


@pytest.mark.parametrize("kinds", ["pt", "sft", "pt+sft"])
def test_a_units_importance_is_that_of_the_official_code(kinds):
    """calculate_importance with a batch for each text; where both kinds are there, each counts half."""
    model = waves()
    looked_at = probe(*(pack for kind in kinds.split("+") for pack in OFFICIAL[kind]))
    found = unit_importance(model, units(model), looked_at)
    expected = {f"model.layers.1.{name}": value for name, value in frozen("adept")["importance"][kinds].items()}
    assert found == pytest.approx(expected, rel=1e-5)


def test_units_are_scored_without_dropout_and_by_the_authors_with_it():
    """With dropout of 0.3 in attention train mode gives from 0.73 to 1.49 times the importance; without dropout it gives the same."""

    def in_train_mode(dropout):
        model = waves().train()
        torch.manual_seed(0)
        slopes = {name: torch.zeros_like(unit) for name, unit in units(model).items()}
        for layer in surgery.decoder_layers(model):
            layer.self_attn.attention_dropout = dropout
        for batch in looked_at.batches:
            model.zero_grad()
            looked_at.losses(model, batch).mean().backward()
            for name, unit in units(model).items():
                slopes[name] += unit.grad.abs() / len(looked_at.batches)
        found = unit_importance(model, units(model), looked_at)
        return {name: (unit.abs() * slopes[name]).mean().item() / found[name] for name, unit in units(model).items()}

    looked_at = probe(*OFFICIAL["pt"])
    assert list(in_train_mode(0.0).values()) == pytest.approx([1.0] * 9, rel=1e-5)
    ratios = in_train_mode(0.3).values()
    assert (min(ratios), max(ratios)) == pytest.approx((0.735, 1.486), abs=0.02)


def test_texts_and_answers_count_half_each():
    model = trained(deep.llama(3))
    texts, answers = [text(0, 12), text(1, 5)], [text(2, 9, prompt=4), text(3, 20, prompt=18), text(4, 6, prompt=5)]
    of_texts, of_answers, of_both = (
        unit_importance(model, units(model), probe(pack)) for pack in (texts, answers, [*answers, *texts])
    )
    expected = {name: (of_texts[name] + of_answers[name]) / 2 for name in of_texts}
    assert of_both == pytest.approx(expected, rel=1e-3)
    assert of_texts != pytest.approx(of_answers, rel=0.1)


# 5. The rule of rates.


def test_units_are_scored_by_kinds_under_activation_checkpointing_too():
    model = deep.llama(2)
    both = probe([text(1, 6), text(2, 6, prompt=3)])
    expected = unit_importance(model, units(model), both)
    with activations.checkpointed(model):
        assert unit_importance(model, units(model), both) == expected
