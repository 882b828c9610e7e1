"""MoLA: a router of its own for every linear layer, and as many LoRA experts as the layer's depth is allotted.

The layer and the load balance are held against the equations, and against numbers that the authors' code gave
(`data/mola.json`).
"""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM

from tasks.core.training import Start
from tasks.core.weights import surgery
from tasks.engine.training import compose, store
from tasks.io.weights import checkpoints
from tasks.methods.adapters.lora import method as lora
from tasks.methods.adapters.mola import method as mola
from tasks.methods.adapters.mola.config import MolaConfig
from tasks.methods.adapters.mola.method import allotted, attach, redundancy
from tests import tiny as small
from tests.methods import contract
from tests.methods.official import frozen, same, wave

SMALL = {"rank": 4, "experts": (3, 2, 4, 2)}


def trainable(model, params):
    """N_j (r (in + out) + in) for every linear layer, N_j experts in its decoder layer."""
    depth = len(surgery.decoder_layers(model))
    return sum(
        params.experts[4 * surgery.layer_number(name) // depth]
        * (params.rank * (m.in_features + m.out_features) + m.in_features)
        for name, m in surgery.linears(model, params.targets).items()
    )


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def make_layer(num_experts=4, sizes=(12, 20), **config):
    """An adapted layer after some training, as far as its function goes."""
    torch.manual_seed(0)
    mola_config = MolaConfig(**{"rank": 3, "alpha": 6.0, "dropout": 0.0} | config)
    layer = mola.MolaLinear(torch.nn.Linear(*sizes).requires_grad_(False), num_experts, mola_config)
    torch.nn.init.normal_(layer.B_OER)
    torch.nn.init.normal_(layer.router_EI)
    return layer


def trained(model, **config):
    """`model` with experts that do something."""
    torch.manual_seed(0)
    attached = attach(model, MolaConfig(**SMALL | {"dropout": 0.0} | config), Start())
    for name, parameter in attached.named_parameters():
        if name.endswith(("B_OER", "router_EI")):
            torch.nn.init.normal_(parameter, std=0.3)
    return attached


def token_by_token(layer, x_TI, top_k):
    """Equations 3 and 4 in loops."""
    rows = []
    for x in x_TI:
        p = torch.softmax(layer.router_EI @ x, 0)
        picks = p.argsort(descending=True)[:top_k].tolist()
        y = layer.base.weight @ x + layer.base.bias
        for k in picks:
            y = y + p[k] / p[picks].sum() * 6.0 / 3 * layer.B_OER[:, k] @ (layer.A_ERI[k] @ x)
        rows.append(y)
    return torch.stack(rows)


@pytest.mark.parametrize("top_k", [1, 2, 4])
def test_a_token_sees_its_experts_and_no_other(top_k):
    layer, x = make_layer(top_k=top_k, experts=(4,) * 4), noise(30, 12, seed=1)
    g = noise(30, 20, seed=2)
    expected = token_by_token(layer, x, top_k)
    wanted = torch.autograd.grad(expected, list(layer.parameters())[:3], g)
    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(layer(x.view(5, 6, 12)), expected.view(5, 6, 20), rtol=1e-5, atol=1e-5)
    found = torch.autograd.grad(layer(x), list(layer.parameters())[:3], g)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def official(layer, phase):
    """`layer` with the numbers that the official one was given."""
    num_experts, rank, width = layer.A_ERI.shape
    layer.double()
    layer.base.weight.data = wave(*layer.base.weight.shape, phase=phase)
    layer.base.bias.data = wave(*layer.base.bias.shape, phase=phase + 1)
    layer.router_EI.data = wave(num_experts, width, phase=phase + 2)
    layer.A_ERI.data = wave(num_experts, rank, width, phase=phase + 3)
    layer.B_OER.data = wave(*layer.B_OER.shape, phase=phase + 4)
    return layer


@pytest.mark.parametrize("top_k", [1, 2, 3])
def test_a_layer_and_its_gradients_are_those_of_the_official_code(top_k):
    """Linear_MoE with three experts; it routes in float32 whatever its input, and so do we."""
    config = {"rank": 2, "alpha": 3.0, "top_k": top_k, "experts": (3,) * 4}
    layer = official(make_layer(3, (5, 4), **config), 0.5)
    x = wave(2, 4, 5, phase=6.0).requires_grad_()
    y = layer(x)
    y.backward(wave(2, 4, 4, phase=7.0))
    found = {"y": y, "x_grad": x.grad, "router_grad": layer.router_EI.grad}
    found |= {"A_grad": layer.A_ERI.grad, "B_grad": layer.B_OER.grad}
    same(found, frozen("mola")["layer"][str(top_k)])


def test_with_all_experts_picked_it_is_their_softmax_mixture():
    layer, x = make_layer(), noise(9, 12, seed=1)
    layer.top_k = 4
    p = torch.softmax(x @ layer.router_EI.T, -1)
    mixture = torch.einsum("te,oer,eri,ti->to", p, layer.B_OER, layer.A_ERI, x)
    torch.testing.assert_close(layer(x), layer.base(x) + 6.0 / 3 * mixture, rtol=1e-5, atol=1e-5)


def test_routing_is_in_float32_and_sees_its_input_before_dropout():
    layer, x = make_layer(dropout=0.9).bfloat16(), noise(9, 12, seed=1).bfloat16()
    weights = layer.route(x)
    assert weights.dtype is torch.float32
    torch.testing.assert_close(weights.sum(-1), torch.ones(9), rtol=0, atol=1e-6)
    assert (weights > 0).sum(-1).eq(2).all()
    layer.train()(x)
    first = layer.load
    layer(x)
    assert torch.equal(layer.load[1], first[1])
    assert not torch.equal(layer(x), layer(x)), "dropout acts on the experts"


@pytest.mark.parametrize("mode", [True, False])
def test_a_fresh_model_is_the_base_when_it_trains_and_when_it_does_not(tiny, mode):
    x = torch.tensor([[3, 1, 4, 1, 5]])
    expected = small.load(tiny).train(mode)(x).logits
    assert torch.equal(attach(small.load(tiny), MolaConfig(**SMALL), Start()).train(mode)(x).logits, expected)


def llama_2_7b(attach, params):
    """The numbers that train in an adapted LLaMA 2 7B, which takes no memory."""
    with torch.device("meta"):
        model = attach(LlamaForCausalLM(LlamaConfig()), params, Start())  # transformers' defaults are those of LLaMA 7B
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize(
    ("experts", "expected"),
    [
        ((8, 8, 8, 8), 169_017_344),
        ((5, 5, 5, 5), 105_635_840),
        ((2, 4, 6, 8), 105_635_840),
        ((2, 3, 5, 6), 84_508_672),
    ],
)
def test_llama_2_7b_trains_what_table_1_says(experts, expected):
    assert llama_2_7b(attach, MolaConfig(experts=experts)) == expected


def test_lora_of_rank_64_trains_the_159_9_million_that_table_1_sets_beside_them():
    assert llama_2_7b(lora.attach, lora.LoraConfig(rank=64, targets="all-linear")) == 159_907_840


def test_a_quarter_of_the_layers_has_each_number_of_experts():
    assert [allotted(j, 8, (2, 4, 6, 8)) for j in range(8)] == [2, 2, 4, 4, 6, 6, 8, 8]
    assert [allotted(j, 6, (2, 4, 6, 8)) for j in range(6)] == [2, 2, 4, 6, 6, 8]  # floor(4 j / 6)
    assert [allotted(j, 2, (2, 4, 6, 8)) for j in range(2)] == [2, 6]


def test_all_linear_layers_of_a_decoder_layer_have_its_experts_and_a_router_each(tiny):
    model = attach(small.load(tiny), MolaConfig(**SMALL), Start())
    depth = len(surgery.decoder_layers(model))
    for number, layers in mola.by_decoder_layer(model).items():
        assert len(layers) == 7
        assert {len(layer.router_EI) for layer in layers.values()} == {SMALL["experts"][4 * number // depth]}
    names = {n.rpartition(".")[2] for n, p in model.named_parameters() if p.requires_grad}
    assert names == {"A_ERI", "B_OER", "router_EI"}


def test_one_expert_is_lora_as_peft_has_it(tiny):
    one = attach(small.load(tiny), MolaConfig(rank=4, alpha=12, dropout=0, experts=(1,) * 4, top_k=1), Start())
    lora = get_peft_model(small.load(tiny), LoraConfig(r=4, lora_alpha=12, target_modules="all-linear"))
    pairs = []
    for name, module in lora.get_base_model().named_modules():
        if hasattr(module, "lora_A"):
            a, b = module.lora_A["default"].weight, module.lora_B["default"].weight
            torch.nn.init.normal_(b, std=0.1)
            ours = one.get_submodule(name)
            ours.A_ERI.data[0], ours.B_OER.data[:, 0] = a.data, b.data
            pairs += [(a, ours.A_ERI, 0), (b, ours.B_OER, 1)]
    assert pairs
    x = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])
    expected, found = lora(input_ids=x, labels=x), one(input_ids=x, labels=x)
    torch.testing.assert_close(found.logits, expected.logits, rtol=0, atol=1e-6)
    expected.loss.backward()
    found.loss.backward()
    for wanted, parameter, axis in pairs:
        torch.testing.assert_close(parameter.grad.squeeze(axis), wanted.grad, rtol=0, atol=1e-6)


def test_the_router_learns_of_the_text_from_the_second_step_on(tiny):
    parts = contract.composition(adapters="mola")
    parts = compose.Composition(**vars(parts) | {"adapter": contract.part("adapters", "mola", balance=0.0)})
    attached, optimizer = contract.composed(small.load(tiny), parts)

    def gradients(ending):
        optimizer.zero_grad()
        attached.model.train()(**contract.batch())["loss"].backward()
        return [p.grad for name, p in attached.trainable.items() if name.endswith(ending)]

    assert all(torch.count_nonzero(g) == 0 for g in gradients("router_EI")), "every expert still says 0"
    assert all(torch.count_nonzero(g) > 0 for g in gradients("B_OER"))
    optimizer.step()
    assert all(torch.count_nonzero(g) > 0 for g in gradients("router_EI"))


@pytest.mark.parametrize("kind", contract.MODELS)
def test_writing_with_a_cache_is_writing_without(tiny, kind):
    model = trained(contract.model(kind, tiny)).eval()
    ids = torch.tensor([[3, 1, 4, 1, 5]])
    written = model.generate(ids, max_new_tokens=12, do_sample=False, pad_token_id=0, eos_token_id=None)
    base = contract.model(kind, tiny).eval()
    assert not torch.equal(
        written, base.generate(ids, max_new_tokens=12, do_sample=False, pad_token_id=0, eos_token_id=None)
    )
    with torch.no_grad():
        for _ in range(12):
            ids = torch.cat([ids, model(ids, use_cache=False).logits[:, -1:].argmax(-1)], dim=1)
    assert torch.equal(written, ids)


def test_a_saved_adapter_writes_as_the_trained_one(tiny, tmp_path):
    parts = contract.composition(adapters="mola")
    attached, optimizer = contract.composed(small.load(tiny), parts)
    contract.steps(attached, optimizer, parts, count=3)
    store.save(attached, parts, None, tmp_path / "saved")
    loaded, _ = checkpoints.load(tmp_path / "saved", tiny)
    ids = torch.tensor([[3, 1, 4, 1, 5]])
    written = loaded.generate(ids, max_new_tokens=6, do_sample=False, pad_token_id=0, eos_token_id=None)
    with torch.no_grad():
        for _ in range(6):
            hidden = attached.model.eval().get_decoder()(ids, use_cache=False).last_hidden_state[:, -1:]
            ids = torch.cat([ids, attached.model.get_output_embeddings()(hidden).argmax(-1)], dim=1)
    assert torch.equal(written, ids)


def test_redundancy_is_the_mean_distance_of_experts(tiny):
    model = trained(small.load(tiny), alpha=20.0)
    found = redundancy(model)
    depth = len(surgery.decoder_layers(model))
    assert list(found) == list(range(depth))
    for number in found:
        of_modules = []
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            layer = model.get_submodule(f"model.layers.{number}.self_attn.{name}")
            deltas = [20.0 / 4 * layer.B_OER[:, e] @ layer.A_ERI[e] for e in range(len(layer.A_ERI))]
            pairs = [(deltas[i] - deltas[k]).norm() for k in range(len(deltas)) for i in range(k)]
            of_modules.append(sum(pairs) / len(pairs))
        assert found[number] == pytest.approx(sum(of_modules).item() / 4, rel=1e-5)


def test_equal_experts_are_redundant_and_a_single_one_has_no_pair(tiny):
    model = trained(small.load(tiny))
    for layers in mola.by_decoder_layer(model).values():
        for layer in layers.values():
            layer.A_ERI.data[:] = layer.A_ERI.data[:1]
            layer.B_OER.data[:] = layer.B_OER.data[:, :1]
    assert max(redundancy(model).values()) < 1e-5
    assert redundancy(trained(small.load(tiny), experts=(1,) * 4, top_k=1)) == {}


@pytest.mark.parametrize("seed", range(3))
def test_experts_fit_clusters_that_one_update_cannot(seed):
    """Six clusters of tokens, each with a change of rank 2 of its own: 4 experts of rank 4 against LoRA of rank 16."""

    def fit(num_experts, rank, top_k, steps=300):
        draw = torch.Generator().manual_seed(seed)
        centres = 3 * torch.randn(6, 32, generator=draw)
        change = torch.randn(6, 32, 2, generator=draw) @ torch.randn(6, 2, 32, generator=draw) / 32**0.5

        def tokens(count):
            cluster = torch.randint(6, (count,), generator=draw)
            x = centres[cluster] + torch.randn(count, 32, generator=draw)
            return x, x @ weight.T + torch.einsum("toi,ti->to", change[cluster], x)

        torch.manual_seed(seed)
        base = torch.nn.Linear(32, 32, bias=False).requires_grad_(False)
        weight = base.weight
        config = MolaConfig(rank=rank, alpha=2.0 * rank, dropout=0, experts=(num_experts,) * 4, top_k=top_k)
        layer = mola.MolaLinear(base, num_experts, config)
        optimizer = torch.optim.Adam([p for p in layer.parameters() if p.requires_grad], lr=1e-2)
        for _ in range(steps):
            x, y = tokens(256)
            optimizer.zero_grad()
            F.mse_loss(layer(x), y).backward()
            optimizer.step()
        x, y = tokens(2000)
        with torch.no_grad():
            return F.mse_loss(layer(x), y).item(), F.mse_loss(base(x), y).item()

    (experts, start), (lora, _) = fit(4, 4, 2), fit(1, 16, 1)
    assert experts < lora / 2 < start / 2


@pytest.mark.parametrize(
    "wrong", [{"rank": 0}, {"dropout": 1}, {"experts": (1, 2, 2, 2)}, {"experts": (2, 2)}, {"balance": -1}]
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        MolaConfig(**wrong)


def test_a_rank_above_a_layer_is_refused_by_its_name(tiny):
    with pytest.raises(ValueError, match=r"rank 4000 is above model\.layers\.0\..*take at most"):
        attach(small.load(tiny), MolaConfig(rank=4000), Start())
