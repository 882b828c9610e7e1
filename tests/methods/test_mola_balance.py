"""The load balance of MoLA: by hand, by the official code, and over a step."""

import gc
import weakref

import pytest
import torch
from torch.nn import functional as F

from tasks.core.training import Start
from tasks.core.weights import surgery
from tasks.methods.adapters.mola import method as mola
from tasks.methods.adapters.mola.config import MolaConfig
from tasks.methods.adapters.mola.method import attach, penalty
from tests import tiny as small
from tests.methods import contract
from tests.methods.official import frozen, same, wave
from tests.methods.test_mola import SMALL, official, trained


def balance(model, **config):
    return penalty(model, MolaConfig(**SMALL | {"balance": 1.0} | config))


def route_all(model, router):
    """Let every router be `router(W_r)`, and run a text through the model."""
    for layers in mola.by_decoder_layer(model).values():
        for layer in layers.values():
            layer.router_EI.data = router(layer.router_EI.data)
    model(torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]]))
    return len(surgery.decoder_layers(model))


def test_equal_logits_have_a_load_balance_of_one_in_every_layer(tiny):
    model = attach(small.load(tiny), MolaConfig(**SMALL), Start())
    depth = route_all(model, torch.zeros_like)
    assert balance(model).item() == pytest.approx(depth)


class Decoder(torch.nn.Module):
    """What the helpers know as a decoder: layers of linear layers."""

    def __init__(self, depth, width, out, names):
        super().__init__()
        self.layers = torch.nn.ModuleList(
            torch.nn.ModuleDict({name: torch.nn.Linear(width, out) for name in names}) for _ in range(depth)
        )

    def get_output_embeddings(self):
        return None


def test_one_expert_for_all_tokens_has_a_load_balance_of_their_number():
    config = MolaConfig(rank=1, experts=(5, 5, 5, 5), top_k=1, balance=0.5)
    model = attach(Decoder(1, 3, 3, ["q_proj"]), config, Start())
    layer = model.layers[0]["q_proj"]
    layer.router_EI.data = torch.tensor([[50.0] * 3, *[[0.0] * 3] * 4])
    layer(torch.rand(7, 3) + 1)
    assert penalty(model, config).item() == pytest.approx(0.5 * 5)


def by_hand(model, ids, top_k):
    """The load balance as the authors' code has it: the logits of a layer's modules joined along the tokens."""
    inputs, kind = {}, mola.MolaLinear
    hooks = [
        module.register_forward_pre_hook(lambda module, args, name=name: inputs.update({name: args[0].flatten(0, -2)}))
        for name, module in model.named_modules()
        if isinstance(module, kind)
    ]
    model(ids)
    for hook in hooks:
        hook.remove()
    total = 0
    for number in range(len(surgery.decoder_layers(model))):
        mine = {name: x for name, x in inputs.items() if f"layers.{number}." in name}
        logits = torch.cat([x @ model.get_submodule(name).router_EI.T for name, x in mine.items()])
        assert len(logits) == 7 * ids.numel()
        p = logits.softmax(-1)
        picks = F.one_hot(p.topk(top_k).indices.flatten(), p.shape[1]).sum(0)
        total = total + p.shape[1] * (picks / picks.sum() * p.mean(0)).sum()
    return total


def test_the_load_balance_is_taken_over_all_linear_layers_of_a_decoder_layer(tiny):
    model = trained(small.load(tiny))
    routers = [p for name, p in model.named_parameters() if name.endswith("router_EI")]
    expected = by_hand(model, torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]]), 2)
    wanted = torch.autograd.grad(expected, routers)
    model(torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]]))
    found = balance(model)
    torch.testing.assert_close(found, expected)
    # The authors' counts carry no gradient; ours is theirs if none goes through f here either.
    torch.testing.assert_close(torch.autograd.grad(found, routers), wanted)


@pytest.mark.parametrize("top_k", [1, 2])
def test_the_load_balance_and_its_gradient_are_those_of_the_official_code(top_k):
    """load_balancing_loss_func on two decoder layers, of two and of three experts, with two linear layers each."""
    config = MolaConfig(rank=2, alpha=3.0, dropout=0, experts=(2, 2, 3, 3), top_k=top_k, balance=1.0)
    model = attach(Decoder(2, 5, 4, ["q_proj", "v_proj"]), config, Start())
    layers = mola.by_decoder_layer(model)
    for number, of_layer in layers.items():
        for place, layer in enumerate(of_layer.values()):
            official(layer, 0.5 + number + 2 * place)(wave(2, 4, 5, phase=6.0))
    found, expected = penalty(model, config), frozen("mola")[f"balance_{top_k}"]
    routers = [layer.router_EI for of_layer in layers.values() for layer in of_layer.values()]
    same(found, expected["loss"])
    for grad, wanted in zip(torch.autograd.grad(found, routers), expected["router_grads"], strict=True):
        same(grad, wanted)


def test_the_load_balance_is_on_by_default_as_in_the_authors_script_for_instruction_tuning():
    """`mola_training_instruction.py` adds 0.001 of it, which for the model above is 0.0020; `mola_training.py` adds none."""
    found = {}
    for balance in (MolaConfig().balance, 0.0):
        config = MolaConfig(rank=2, alpha=3.0, dropout=0, experts=(2, 2, 3, 3), balance=balance)
        model = attach(Decoder(2, 5, 4, ["q_proj", "v_proj"]), config, Start())
        for number, of_layer in mola.by_decoder_layer(model).items():
            for place, layer in enumerate(of_layer.values()):
                official(layer, 0.5 + number + 2 * place)(wave(2, 4, 5, phase=6.0))
        found[balance] = penalty(model, config).item()
    assert found == pytest.approx({0.001: 0.001 * frozen("mola")["balance_2"]["loss"], 0.0: 0.0}, rel=1e-6)
    assert found[0.001] == pytest.approx(0.0020, abs=1e-5)


def test_the_penalty_of_a_step_is_the_packs_mean_by_trained_tokens(tiny):
    parts = contract.composition(adapters="mola")
    attached, _ = contract.composed(small.load(tiny), parts)
    model = attached.model.train()
    batches = [contract.batch(1), contract.batch(2)]
    counts = [int((batch["labels"] != -100).sum()) for batch in batches]
    assert counts[0] != counts[1]
    found = [model(num_items_in_batch=sum(counts), **batch)["loss"] for batch in batches]

    def alone(batch):
        contract.token_losses(model, batch)
        return penalty(model, parts.adapter.config)

    plain_loss = sum(contract.token_losses(model, batch).sum() for batch in batches) / sum(counts)
    expected = sum(n * alone(batch) for n, batch in zip(counts, batches, strict=True)) / sum(counts)
    assert expected > 0
    torch.testing.assert_close(sum(found), plain_loss + expected, rtol=0, atol=2e-6)


def test_a_step_leaves_nothing_of_its_routing_behind(tiny):
    attached, _ = contract.composed(small.load(tiny), contract.composition(adapters="mola"))
    layers = [m for m in attached.model.modules() if isinstance(m, mola.MolaLinear)]
    noted = []
    for layer in layers:
        layer.register_forward_hook(lambda module, args, out: noted.append(weakref.ref(module.load[1])))
    attached.model.train()(**contract.batch())["loss"].backward()
    assert len(noted) == len(layers)
    assert all(layer.load is None for layer in layers)
    gc.collect()
    assert all(reference() is None for reference in noted)
