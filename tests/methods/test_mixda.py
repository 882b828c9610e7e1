"""MixDA: domain adapters beside an MLP's last layer, what they owe to general text, and the gate that mixes them token by token."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from tasks.core.training import Start
from tasks.core.weights import activations, surgery
from tasks.core.weights.row import task_key
from tasks.engine.forward import token_losses, use_packed_attention
from tasks.engine.packing import Pack, collate
from tasks.methods.adapters.mixda.config import SPEC, MixdaConfig
from tasks.methods.adapters.mixda.method import DomainLinear, KnowledgeLinear, MixtureLinear, attach, chosen, penalty
from tests import tiny as small
from tests.methods import contract

SMALL = {"reduction": 8, "places": (0.0, 0.5), "gate_width": 5, "task_rank": 3}
CONFIG = MixdaConfig(**SMALL)


def shapes(model, config):
    """(H, I) of the MLP of each layer that has an adapter."""
    numbers = chosen(len(surgery.decoder_layers(model)), config)
    downs = surgery.linears(model, ("down_proj",))
    return [layer.weight.shape for name, layer in downs.items() if surgery.layer_number(name) in numbers]


def trainable(model, config):
    """R I + R + H R + H for each layer that has an adapter, R = I / reduction."""
    return sum((wide // config.reduction) * (wide + 1 + hidden) + hidden for hidden, wide in shapes(model, config))


def layers(model, kind=KnowledgeLinear):
    return list(surgery.layers_of(model, kind).values())


def domain(model, seed):
    """The tensors of a domain's adapter that has learnt something."""
    draw = torch.Generator().manual_seed(seed)
    return {
        f"{name}.{key}": 0.3 * torch.randn(getattr(layer, key).shape, generator=draw)
        for name, layer in surgery.layers_of(model, DomainLinear).items()
        for key in SPEC.held
    }


def mixing(tiny, *domains, **settings):
    """A model that mixes some domains, and their tensors."""
    apprentice = attach(small.load(tiny), CONFIG, Start())
    held = {name: domain(apprentice, seed) for seed, name in enumerate(domains or ("law", "code"), 1)}
    torch.manual_seed(0)
    return attach(small.load(tiny), MixdaConfig(**SMALL | settings), Start(domains=held)), held


def row(*tasks, seed=1):
    """A packed row of one sequence a task."""
    sequences = zip(small.sequences(len(tasks), seed=seed), tasks, strict=True)
    return collate([Pack(tuple(replace(sequence, task=task) for sequence, task in sequences))])


def test_the_default_places_are_the_papers():
    assert chosen(24, MixdaConfig()) == [7, 11]
    assert chosen(1, MixdaConfig(places=(0.0, 1.0))) == [0]


def test_a_layer_computes_the_equation(tiny):
    model, held = mixing(tiny)
    (name, layer), *_ = surgery.layers_of(model, MixtureLinear).items()
    torch.nn.init.normal_(layer.gate[2].weight)
    behind = model.get_submodule(name.removesuffix(".base"))
    torch.nn.init.normal_(behind.task[2].weight)
    a = torch.randn(1, 5, layer.base.in_features)
    known = []
    for _, tensors in sorted(held.items()):
        down, bias, up, shift = (tensors[f"{name.removesuffix('.base')}.{key}"][0] for key in SPEC.held)
        known.append(F.linear(F.gelu(F.linear(a, down, bias)), up, shift))
    w = layer.gate(a).softmax(dim=-1)
    expected = w[..., :1] * known[0] + w[..., 1:2] * known[1] + w[..., 2:] * layer.base(a)
    torch.testing.assert_close(layer(a), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(behind(a), expected + behind.task(expected), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("gate", ["softmax", "sigmoid"])
def test_a_gate_forced_to_the_mlp_is_the_base(tiny, gate):
    model, _ = mixing(tiny, gate=gate)
    for layer in layers(model):
        layer.gate[2].bias.data = torch.tensor([-1e4, -1e4, 1e4])
    torch.testing.assert_close(contract.losses(model), contract.losses(small.load(tiny)), rtol=0, atol=1e-6)


@pytest.mark.parametrize("gate", ["softmax", "sigmoid"])
def test_a_fresh_gate_gives_half_to_the_mlp_and_half_to_the_domains(tiny, gate):
    model, held = mixing(tiny, "law", gate=gate)
    apprentice = attach(small.load(tiny), CONFIG, Start())
    for name, tensor in held["law"].items():
        apprentice.get_parameter(name).data.copy_(tensor)
    found, expected = contract.losses(model), contract.losses(apprentice)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(found, contract.losses(small.load(tiny)), atol=1e-3)
    layer = layers(mixing(tiny, "law", "code", "tea", gate=gate)[0])[0]
    torch.testing.assert_close(
        layer.shares(torch.randn(1, 4, layer.base.in_features))[0, 0], torch.tensor([1, 1, 1, 3]) / 6
    )


def test_what_an_adapter_reads_is_what_the_last_layer_of_the_mlp_reads(tiny):
    plain, seen = small.load(tiny), []
    (number, *_) = chosen(len(surgery.decoder_layers(plain)), CONFIG)
    surgery.decoder_layers(plain)[number].mlp.down_proj.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    contract.losses(plain)
    expected = seen[-1]  # the first time a model is used it reads other rows before
    model, _ = mixing(tiny)
    layers(model)[0].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    contract.losses(model)
    assert expected.shape[-1] == plain.config.intermediate_size
    assert torch.equal(expected, seen[-1])


@torch.no_grad()
def test_no_token_sees_what_comes_after_it(tiny):
    model, _ = mixing(tiny)
    model.eval()
    for layer in layers(model):
        torch.nn.init.normal_(layer.gate[2].weight)
    ids = torch.arange(20, 34)[None]
    other = ids.clone()
    other[0, 6:] = (other[0, 6:] + 1) % 200
    first, second = (model.get_decoder()(input_ids=each).last_hidden_state for each in (ids, other))
    torch.testing.assert_close(first[0, :6], second[0, :6], rtol=0, atol=1e-6)
    assert not torch.allclose(first[0, 6:], second[0, 6:])


def of_tokens(batch):
    """The number of the sequence that each token of a row is of."""
    return torch.arange(len(batch["task_keys"])).repeat_interleave(batch["boundaries"].diff())


@pytest.fixture
def training(tiny):
    """A model with a domain's adapter, ready for a step."""
    return contract.composed(small.load(tiny), contract.composition(adapters="mixda"))[0].model.train()


@pytest.mark.parametrize(("tasks", "general"), [(("general", "law", "general"), (0, 2)), (("general",), (0,))])
def test_what_is_owed_at_the_start_is_the_mean_square_of_what_the_mlp_gives_general_text(training, tasks, general):
    batch, own = row(*tasks), {}
    for number, layer in enumerate(layers(training)):
        layer.base.register_forward_hook(lambda _, args, out, number=number: own.__setitem__(number, out.detach()))
    token_losses(training, batch)
    is_general = torch.isin(of_tokens(batch), torch.tensor(general))
    squares = torch.stack([out[0, is_general].square().mean(dim=-1) for out in own.values()])  # over H
    assert len(squares) == len(CONFIG.places)
    assert squares.mean() > 0
    share = is_general.float().mean()
    torch.testing.assert_close(penalty(training, CONFIG), 2 * share * squares.mean(), rtol=1e-5, atol=1e-7)
    assert penalty(training, CONFIG) == 0, "it was taken"


def test_general_text_weighs_nothing_in_the_loss_of_the_domain(training):
    batch = row("general", "law")
    assert batch["task_keys"].tolist() == [task_key("general"), task_key("law")]
    losses = token_losses(training, batch)
    debt = penalty(training, CONFIG)
    of_law = batch["segments"][0][batch["labels"][0] != -100] == 1
    expected = losses[of_law].sum() / len(losses) + debt
    torch.testing.assert_close(training(**batch)["loss"], expected, rtol=1e-5, atol=1e-6)
    assert 0 < of_law.sum() < len(losses)


def test_layers_that_are_computed_again_give_the_same_gradients(training):
    def gradients(*, again):
        training.zero_grad()
        with activations.applied(training, wanted=again):
            training(**row("general", "law"))["loss"].backward()
        assert all(layer.owed is None for layer in layers(training))
        return {name: p.grad.clone() for name, p in training.named_parameters() if p.requires_grad}

    for layer in layers(training):
        torch.nn.init.normal_(layer.up_NHR)
    once, twice = gradients(again=False), gradients(again=True)
    assert all(torch.equal(once[name], twice[name]) for name in once)
    assert all(gradient.any() for gradient in once.values())


def test_where_domains_are_mixed_general_text_weighs_as_any_other(tiny):
    parts = contract.composition(adapters="mixda")
    model, _ = mixing(tiny)
    assert penalty(model, CONFIG) == 0
    keys = torch.tensor([task_key("general"), 5])
    assert parts.adapter.method.weigh(model, keys, CONFIG).tolist() == [1, 1]
    assert parts.adapter.method.weigh(attach(small.load(tiny), CONFIG, Start()), keys, CONFIG).tolist() == [0, 1]
    assert parts.adapter.method.facts(model) == {"layers": [0, 1], "domains": 2}


def test_where_it_pays_what_it_owes_half_a_gate_leaves_general_text_nearer_to_the_base(tiny):
    def after(general):
        torch.manual_seed(0)
        parts = replace(contract.composition(), adapter=contract.part("adapters", "mixda", general=general))
        attached, optimizer = contract.composed(small.load(tiny), parts, hasty=True)
        model = attached.model.train()
        for step in range(25):
            optimizer.zero_grad()
            model(**row("law", "general", seed=step % 4))["loss"].backward()
            optimizer.step()
        return far(model.eval(), "general", 9), far(model, "law", 0)

    owed, free = after(200.0), after(0.0)
    base = small.load(tiny).eval()
    use_packed_attention(base)
    assert abs(owed[0] - far(base, "general", 9)) < abs(free[0] - far(base, "general", 9))
    assert owed[1] < far(base, "law", 0)


@torch.no_grad()
def far(model, task, seed):
    """The mean loss of a row of a task."""
    return float(token_losses(model, row(task, task, seed=seed)).mean())


def test_what_mixes_trains_gate_and_task_adapter_and_holds_the_domains(tiny):
    model, held = mixing(tiny)
    downs = surgery.linears(small.load(tiny), ("down_proj",)).values()
    of_tasks = sum(hidden * 3 + 3 + 3 * hidden + hidden for hidden, _ in (layer.weight.shape for layer in downs))
    of_gates = sum(wide * 5 + 5 + 5 * 3 + 3 for _, wide in shapes(small.load(tiny), CONFIG))
    trains = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert sum(p.numel() for p in trains.values()) == of_tasks + of_gates
    assert all({"gate", "task"} & set(name.split(".")) for name in trains)
    buffers = SPEC.held_in(model)
    assert len(buffers) == len(SPEC.held) * len(CONFIG.places)
    for name, layer in surgery.layers_of(model, MixtureLinear).items():
        for key in SPEC.held:
            kept = [held[one][f"{name.removesuffix('.base')}.{key}"] for one in ("code", "law")]
            assert torch.equal(getattr(layer, key), torch.cat(kept))


def test_adapters_of_other_sizes_are_refused_by_their_domain(tiny):
    held = {"law": domain(attach(small.load(tiny), CONFIG, Start()), 0)}
    with pytest.raises(ValueError, match=r"domain 'law' has a tensor of .* at .*down_proj\.down_NRI, and .* asks for"):
        attach(small.load(tiny), MixdaConfig(**SMALL | {"reduction": 4}), Start(domains=held))
    with pytest.raises(ValueError, match=r"domain 'law' has nothing at .*Set its reduction and places as they were"):
        attach(small.load(tiny), CONFIG, Start(domains=held | {"law": {}}))
