"""ADEPT's learning rates by unit: the rule, the authors' code, and what stays as it is."""

from dataclasses import replace

import pytest
import torch

from tasks.core.training import Moment, Probe
from tasks.core.weights import surgery
from tasks.engine.forward import token_losses
from tasks.methods.expanders.adept import method as adept
from tasks.methods.expanders.adept.config import AdeptConfig
from tasks.methods.expanders.adept.method import expand, multipliers, on_step, unit_importance
from tests.methods import contract, deep
from tests.methods.official import frozen
from tests.methods.test_adept import MODELS, layer_size, probe, rated, state_of, trained, units, update

RULE = {"a": 1.0, "b": 2.0, "c": 3.0}


def at_step(model, optimizer, scheduler, step, state, looked_at=None):
    looked_at = looked_at or probe()
    return Moment(step, 100, 0, model, optimizer, scheduler, looked_at, looked_at, state)


def test_the_most_important_unit_rests_and_the_least_learns_at_twice_the_rate():
    assert multipliers(RULE) == {"a": 2.0, "b": 1.0, "c": 0.0}
    assert multipliers({"a": 7.0, "b": 7.0}) == {"a": 1.0, "b": 1.0}


def test_norms_are_measured_against_all_and_the_others_against_each_other():
    importance = {"matrix": 1.0, "other": 2.0, "norm": 9.0, "small norm": 5.0}
    assert multipliers(importance, ["norm", "small norm"]) == {
        "matrix": 2.0,
        "other": 0.0,
        "norm": 0.0,
        "small norm": 1.0,
    }
    assert multipliers(importance)["other"] == 1.75


@pytest.mark.parametrize("normalisation", ["grad_pro", "plain"])
def test_multipliers_are_those_of_the_official_code(normalisation):
    """adjust_learning_rates on an optimizer with a group for each tensor, which its own trainer does not make."""
    numbers = frozen("adept")
    importance = numbers["importance"]["pt+sft"]
    norms = [name for name in importance if "layernorm" in name] if normalisation == "grad_pro" else []
    assert multipliers(importance, norms) == pytest.approx(numbers["multipliers"][normalisation], abs=1e-6)


def test_the_default_is_the_rule_that_the_authors_trainer_imports():
    """`callbacks.py` measures all units against each other, as `plain` does. `grad_pro` is up to 1.75 lower; norms are equal."""
    assert AdeptConfig().normalisation == "plain"
    numbers = frozen("adept")["multipliers"]
    apart = {name: rate - numbers["grad_pro"][name] for name, rate in numbers["plain"].items()}
    assert apart.pop("self_attn.v_proj.weight") == pytest.approx(1.752, abs=1e-3)
    assert all(0 <= difference < 1.2 for difference in apart.values())
    assert [apart["input_layernorm.weight"], apart["post_attention_layernorm.weight"]] == [0.0, 0.0]


def test_every_tensor_has_a_rate_of_its_own_and_in_the_authors_trainer_two_groups_have_one_each():
    """Their groups, with decay and without, take the rates of their first tensors: here q_proj and the first norm."""
    plain = frozen("adept")["multipliers"]["plain"]
    firsts = [plain["self_attn.q_proj.weight"], plain["input_layernorm.weight"]]
    assert frozen("adept")["two_groups"] == pytest.approx(firsts, abs=1e-6)
    assert plain["self_attn.v_proj.weight"] == pytest.approx(1.752, abs=1e-3)
    assert plain["post_attention_layernorm.weight"] == 0.0


def test_rates_follow_the_schedule_and_never_compound(monkeypatch):
    monkeypatch.setattr(adept, "unit_importance", lambda model, units, probe: RULE)
    model = torch.nn.ParameterDict({name: torch.nn.Parameter(torch.ones(2, 2)) for name in RULE})
    optimizer, scheduler = rated(dict(model.named_parameters()), rate=1e-4, schedule=lambda step: 1 / (1 + step))
    config, state = AdeptConfig(interval=2), {}

    def rates():
        return [group["lr"] for group in optimizer.param_groups]

    def step(number):
        on_step(at_step(model, optimizer, scheduler, number, state), config)
        found = rates()
        for parameter in model.values():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        scheduler.step()
        return found

    assert step(0) == pytest.approx([1e-4] * 3), "never before the first step"
    assert step(1) == pytest.approx([1e-4 / 2] * 3)
    assert step(2) == pytest.approx([2e-4 / 3, 1e-4 / 3, 0])
    assert scheduler.base_lrs == pytest.approx([2e-4, 1e-4, 0])
    assert [group["initial_lr"] for group in optimizer.param_groups] == scheduler.base_lrs
    assert step(3) == pytest.approx([2e-4 / 4, 1e-4 / 4, 0]), "the schedule goes on"
    assert step(4) == pytest.approx([2e-4 / 5, 1e-4 / 5, 0]), "from the first rate, not from the last"
    assert state == {"learning_rates": dict.fromkeys(RULE, 1e-4), "multipliers": {"a": 2.0, "b": 1.0, "c": 0.0}}


@pytest.mark.parametrize("normalisation", ["grad_pro", "plain"])
def test_norms_are_known_by_their_type(normalisation):
    model = trained(deep.qwen3(3))
    optimizer, scheduler = rated(units(model))
    state = {}
    config = AdeptConfig(interval=1, normalisation=normalisation)
    on_step(at_step(model, optimizer, scheduler, 1, state), config)
    norms = [name for name in units(model) if "norm" in name]
    assert {name.rsplit(".", 2)[1] for name in norms} == {
        "input_layernorm",
        "post_attention_layernorm",
        "q_norm",
        "k_norm",
    }
    importance = unit_importance(model, units(model), probe())
    assert state["multipliers"] == multipliers(importance, norms if normalisation == "grad_pro" else [])
    assert multipliers(importance, norms) != multipliers(importance, [])


@pytest.mark.parametrize("interval", [100, 500])
def test_an_interval_that_never_ends_in_the_training_is_refused(interval):
    model = deep.llama(2)
    optimizer, scheduler = rated(units(trained(model)))
    with pytest.raises(ValueError, match=rf"adept.interval is {interval}, and the training has 100 steps"):
        on_step(at_step(model, optimizer, scheduler, 0, {}), AdeptConfig(interval=interval))


def test_with_interval_0_all_units_learn_alike():
    model = trained(deep.llama(3))
    optimizer, scheduler = rated(units(model))
    state = {}
    on_step(
        at_step(model, optimizer, scheduler, 500, state, Probe([], pytest.fail, pytest.fail)), AdeptConfig(interval=0)
    )
    assert {group["lr"] for group in optimizer.param_groups} == {1e-4}
    assert "multipliers" not in state


# 6. What trains, and that looking at it leaves no trace.


@pytest.mark.parametrize(("kind", "tensors", "norms"), [("llama", 9, 2 * 32), ("qwen3", 11, 2 * 32 + 2 * 8)])
def test_every_tensor_of_a_copy_is_a_group(kind, tensors, norms):
    parts = replace(contract.composition(), expander=contract.part("expanders", "adept", layers=2))
    attached, optimizer = contract.composed(MODELS[kind](), parts)
    names = [group["name"] for group in optimizer.param_groups]
    assert names == list(attached.trainable)
    assert len(names) == 2 * tensors
    assert all(len(group["params"]) == 1 for group in optimizer.param_groups)
    size = layer_size(attached.model.config, norms=0) + norms
    assert sum(parameter.numel() for parameter in attached.trainable.values()) == 2 * size


def test_frozen_tensors_stay_bit_for_bit():
    model = deep.llama(4)
    facts = expand(model, AdeptConfig(layers=2), probe(), 0)
    before = state_of(model)
    optimizer, scheduler = rated(units(model), rate=1e-2)
    state = {}
    for step in range(4):
        on_step(at_step(model, optimizer, scheduler, step, state), AdeptConfig(interval=2))
        update(model, optimizer)
    moved = {name for name, tensor in state_of(model).items() if not torch.equal(tensor, before[name])}
    assert {surgery.layer_number(name) for name in moved} == set(facts["copies"])


def test_looking_at_units_changes_nothing_in_what_comes(monkeypatch):
    """With every multiplier forced to 1 the training is that without the look, dropout and all."""
    monkeypatch.setattr(adept, "multipliers", lambda importance, norms=(): dict.fromkeys(importance, 1.0))

    def course(interval):
        model = deep.llama(3, attention_dropout=0.3)
        expand(model, AdeptConfig(layers=2), probe(), 0)
        optimizer, scheduler = rated(units(model), rate=1e-2)
        torch.manual_seed(7)
        seen, state = [], {}
        for step in range(4):
            model.train()
            surgery.decoder_layers(model)[0].eval()
            if step == 2:  # a gradient that is there already must stay what it is
                token_losses(model, contract.batch(3)).mean().backward()
            on_step(at_step(model, optimizer, scheduler, step, state), AdeptConfig(interval=interval))
            assert [layer.training for layer in surgery.decoder_layers(model)] == [False, True, True, True, True]
            loss = token_losses(model, contract.batch()).mean()
            loss.backward()
            seen += [loss.detach(), *(parameter.grad.clone() for parameter in units(model).values())]
            optimizer.step()
            optimizer.zero_grad()
            scheduler.step()
        seen += [tensor for held in optimizer.state.values() for tensor in held.values()]
        assert ("multipliers" in state) == bool(interval)
        return seen

    on, off = course(1), course(0)
    assert len(on) == len(off)
    assert all(torch.equal(found, expected) for found, expected in zip(on, off, strict=True))
