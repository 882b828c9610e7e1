"""SHERL fuses the outputs of frozen layers into the last layer's input and keeps nothing below it; its card's checks 1 to 7.

The module's output and gradients are held against numbers of the authors' `MTSAdapter` (`data/sherl.json`).
"""

import copy

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from tasks.core.records import Message
from tasks.core.training import Start
from tasks.core.weights import surgery
from tasks.engine.forward import bind_loss
from tasks.engine.inference import generation, prompt_encoding
from tasks.engine.packing import Pack, collate
from tasks.methods.adapters.sherl.config import SherlConfig
from tasks.methods.adapters.sherl.method import SideModule, attach, sides
from tests import tiny as small
from tests.methods import contract
from tests.methods.official import frozen, same, wave

SMALL = {"reduction": 4, "every": 1}
THEIRS = {"guide_block.fc_attn": "score", "gate_params": "gamma", "fc_out": "out", "hor_block": "projections"}
LAYERS = {"fc1": "first", "fc2": "second", "fc3": "gate"}


def trainable(model, config):
    """N [(d r + r) + 2 (r² + r)] + (r + 1) + 1 + (r d + d) + d."""
    d = model.config.hidden_size
    r, n = d // config.reduction, len(sides(model.config.num_hidden_layers, config.every)) + 1
    return n * ((d * r + r) + 2 * (r * r + r)) + (r + 1) + 1 + (r * d + d) + d


def ours(name):
    """Our name of a parameter of theirs."""
    for prefix, mine in THEIRS.items():
        name = name.replace(prefix, mine)
    for prefix, mine in LAYERS.items():
        name = name.replace(f".{prefix}.", f".{mine}.")
    return name


@pytest.mark.parametrize("features", [3, 10])
def test_the_module_and_its_gradients_are_the_official_ones(features):
    expected = frozen("sherl")[str(features)]
    module = SideModule(8, 4, features).double()
    parameters = dict(module.named_parameters())
    assert {ours(name) for name in expected["names"]} == parameters.keys()
    with torch.no_grad():
        for place, name in enumerate(expected["names"]):
            parameter = parameters[ours(name)]
            parameter.copy_(0.7 * wave(*parameter.shape, phase=0.3 * place))
        module.gamma.fill_(0.05)
    y = module([wave(2, 3, 8, phase=1.0 + place) for place in range(features)], wave(2, 3, 8, phase=9.0))
    same(y.flatten(), expected["output"])
    (y * wave(2, 3, 8, phase=5.0)).sum().backward()
    for name, gradient in expected["gradients"].items():
        same(parameters[ours(name)].grad.flatten(), gradient)


@torch.no_grad()
def test_gamma_says_how_much_of_the_last_state_enters():
    torch.manual_seed(0)
    module, features = SideModule(8, 4, 3), torch.randn(3, 1, 5, 8)
    one, other = torch.randn(2, 1, 5, 8)
    assert torch.equal(module([*features], one), module([*features], other))
    alone = module([*features], one)
    module.gamma.fill_(3.0)
    torch.testing.assert_close(module([*features], one) - one, alone, rtol=1e-4, atol=1e-5)


class Opposite(nn.Module):
    """What a projection says, negated: it shares no weight with it."""

    def __init__(self, projection):
        super().__init__()
        self.projection = projection

    def forward(self, x):
        return -self.projection(x)


@torch.no_grad()
def test_features_that_say_the_same_share_the_weight_of_one():
    torch.manual_seed(1)
    module, (one, deep) = SideModule(8, 4, 4), torch.randn(2, 1, 5, 8)
    module.projections[1] = module.projections[0]
    module.projections[2] = Opposite(module.projections[0])
    module.score.weight.data *= 0.1  # so that every score is above 0
    pair = module.fused([one, one, one, deep])
    single = SideModule(8, 4, 3)
    single.score = module.score
    single.projections = nn.ModuleList([module.projections[number] for number in (0, 2, 3)])
    torch.testing.assert_close(pair, single.fused([one, one, deep]), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(pair, module.projections[3](deep), atol=1e-3), "no weight was above 0"


@pytest.mark.parametrize(
    ("layers", "every", "chosen"), [(8, 2, [0, 2, 4, 6]), (7, 2, [1, 3, 5]), (5, 1, [0, 1, 2, 3]), (6, 0, [4])]
)
def test_features_are_layers_below_the_last(layers, every, chosen):
    assert sides(layers, every) == chosen


def deep(layers=5):
    """A LLaMA of some layers."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(2)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=259, num_hidden_layers=layers, pad_token_id=256, **sizes))


def bound(model, **settings):
    part = contract.part("adapters", "sherl", **settings)
    bind_loss(model, contract.part("objectives"), part)
    return part.method.attach(model, part.config, Start())


def test_nothing_below_the_last_layer_is_kept_or_gets_a_gradient():
    model = bound(deep(), every=2).train()
    batch, kept = collate([Pack(tuple(small.sequences(4)))]), []
    layers, here = surgery.decoder_layers(model), [0]
    for number, layer in enumerate(layers):
        layer.register_forward_pre_hook(lambda *_, number=number: here.__setitem__(0, number), prepend=True)

    def note(tensor):
        kept.append(here[0])
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = model(**batch)["loss"]
    assert [number for number in kept if number < len(layers) - 1] == []
    assert len(kept) > 10, "the last layer and the module keep theirs"
    loss.backward()
    trained = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert trained == {
        name for name, parameter in model.named_parameters() if ".sherl." in name or ".norm.norm" in name
    }


@pytest.mark.parametrize("place", ["embed_tokens.weight", "layers.1.mlp.up_proj.weight"])
def test_something_that_trains_below_is_refused(place):
    model = bound(deep())
    model.model.get_parameter(place).requires_grad_(True)
    with pytest.raises(ValueError, match="Something below the last layer trains"):
        model.train()(**collate([Pack(tuple(small.sequences(2)))]))


@torch.no_grad()
@pytest.mark.parametrize("start", ["paper", "residual"])
def test_a_later_token_changes_nothing_before_it(start):
    model = attach(deep(), SherlConfig(**SMALL, start=start), Start()).eval()
    ids = torch.tensor([[3, 1, 4, 1, 5, 9, 2]])
    other = ids.clone()
    other[0, 5] = 77
    first, second = model(input_ids=ids).logits, model(input_ids=other).logits
    assert torch.equal(first[:, :5], second[:, :5])
    assert not torch.allclose(first[:, 5:], second[:, 5:])


def test_features_from_disk_give_the_loss_and_the_gradients_of_a_live_pass(tmp_path):
    model, batch = bound(deep(), every=2).train(), collate([Pack(tuple(small.sequences(4)))])
    decoder, layers, seen = model.get_decoder(), surgery.decoder_layers(model), {}
    last = layers[-1]

    def note(_, features, last_BTH):
        seen.update({f"feature-{number}": one for number, one in enumerate(features)}, last=last_BTH)

    handles = [
        decoder.sherl.module.register_forward_pre_hook(lambda module, inputs: note(module, *inputs)),
        last.register_forward_pre_hook(lambda _, args, rest: seen.update(rest=rest), with_kwargs=True, prepend=True),
    ]
    live = model(**batch)["loss"]
    live.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    for handle in handles:
        handle.remove()
    rest = {name: value for name, value in seen.pop("rest").items() if name != "hidden_states"}
    save_file({name: tensor.clone() for name, tensor in seen.items()}, tmp_path / "features.safetensors")
    stored = load_file(tmp_path / "features.safetensors")
    last_BTH = stored.pop("last")
    model.zero_grad()
    fused_BTH = decoder.sherl.module([stored[name] for name in sorted(stored)], last_BTH)
    hidden = decoder.norm(type(last).forward(last, fused_BTH, **rest))
    trained = batch["labels"][0] >= 0
    loss = F.cross_entropy(model.lm_head(hidden[0][trained]), batch["labels"][0][trained])
    torch.testing.assert_close(loss, live)
    loss.backward()
    for name, gradient in gradients.items():
        torch.testing.assert_close(model.get_parameter(name).grad, gradient, rtol=1e-3, atol=1e-6, msg=name)


@torch.no_grad()
def test_what_is_written_with_a_cache_is_what_is_written_without(tiny):
    model, tokenizer = small.decided(tiny)
    attach(model, SherlConfig(**SMALL), Start())
    prompts = [[Message("user", text)] for text in ("b", "A long question of many words?")]
    written = generation.write(model, prompts, tokenizer, max_new_tokens=6, batch_size=2)
    for prompt, text in zip(prompts, written, strict=True):
        ids = torch.tensor([prompt_encoding.prompt_ids(prompt, tokenizer)])
        start = ids.shape[1]
        for _ in range(6):
            following = model(input_ids=ids, use_cache=False).logits[0, -1].argmax()
            ids = torch.cat([ids, following.view(1, 1)], dim=1)
        assert tokenizer.decode(ids[0, start:], skip_special_tokens=True).startswith(text)
    assert len(set(written)) == 2


@torch.no_grad()
def test_the_residual_start_is_the_base_and_the_papers_is_not():
    plain, ids = deep().eval(), torch.tensor([[3, 1, 4, 1, 5]])
    expected = plain(input_ids=ids).logits
    found = {
        start: attach(copy.deepcopy(plain), SherlConfig(**SMALL, start=start), Start())(input_ids=ids).logits
        for start in ("paper", "residual")
    }
    torch.testing.assert_close(found["residual"], expected, rtol=1e-2, atol=1e-3)
    assert not torch.allclose(found["paper"], expected, rtol=1e-2, atol=1e-2)


def test_a_reduction_above_the_hidden_size_is_refused(tiny):
    with pytest.raises(ValueError, match=r"reduction 100 is above the hidden size: take at most 64"):
        attach(small.load(tiny), SherlConfig(reduction=100), Start())


def test_a_decoder_with_another_last_norm_is_refused():
    with pytest.raises(ValueError, match=r"GPT2Model has no last norm called `norm`.*Use adapter lora"):
        attach(small.gpt2(), SherlConfig(**SMALL), Start())


def test_a_model_of_one_layer_has_nothing_for_the_control():
    with pytest.raises(ValueError, match="has one layer and none below it"):
        attach(deep(1), SherlConfig(every=0), Start())
