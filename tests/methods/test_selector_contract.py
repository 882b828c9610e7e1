"""What every selector owes: it is run for each file found in the folder, over full weights and over LoRA.

A selector's test file says under `REFUSES` with which adapters it has nothing to choose from: the adapter, and what the message
advises. `ADAPTER` names the adapter that it is tried with, where that is not `none`.
"""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from tasks import methods
from tasks.core.weights.surgery import plain
from tasks.engine.training import checkpointing, compose, job, store
from tasks.engine.training import train as engine
from tasks.io.weights import checkpoints
from tasks.methods.selectors.kappatune import method as kappatune
from tests import tiny as small
from tests.engine.training.test_train import FULL, LORA, PLAN, SEQUENCES, Killed, change, straight_and_resumed, train
from tests.methods import contract
from tests.support import ScratchRun

SELECTORS = methods.names("selectors")
PAIRS = [(name, adapter) for name in SELECTORS for adapter in ("none", "lora")]
REFUSED = [(name, adapter) for name, adapter in PAIRS if adapter in contract.said(name, "REFUSES", {})]
WORKING = [pair for pair in PAIRS if pair not in REFUSED]
ADAPTER = {name: contract.said(name, "ADAPTER", "none") for name in SELECTORS}
PLAIN = [name for name in SELECTORS if ADAPTER[name] == "none"]
MERGING = [name for name in SELECTORS if methods.spec("selectors", name).merges]


@pytest.fixture(params=contract.MODELS)
def kind(request):
    return request.param


@pytest.mark.parametrize(("name", "adapter"), WORKING)
@pytest.mark.parametrize("dtype", contract.DTYPES, ids=str)
def test_a_selector_leaves_the_function_and_something_to_train(tiny, kind, name, adapter, dtype):
    expected = contract.losses(contract.model(kind, tiny, dtype))
    parts = contract.composition(selectors=name, adapters=adapter)
    attached, _ = contract.composed(contract.model(kind, tiny, dtype), parts)
    assert attached.trainable
    tolerance = 1e-5 if dtype is torch.float32 else 0.1
    torch.testing.assert_close(contract.losses(attached.model), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("name", "adapter"), WORKING)
@pytest.mark.parametrize("dtype", contract.DTYPES, ids=str)
def test_only_what_a_selector_lets_move_moves(tiny, kind, name, adapter, dtype):
    parts = contract.composition(selectors=name, adapters=adapter)
    attached, optimizer = contract.composed(contract.model(kind, tiny, dtype), parts, hasty=True)
    assert contract.steps(attached, optimizer, parts, count=3) <= set(attached.trainable)
    moved = contract.steps(attached, optimizer, parts, count=1)
    assert moved
    assert moved == {n for n, p in attached.model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize(("name", "adapter"), REFUSED)
def test_an_adapter_that_leaves_nothing_to_choose_from_is_refused(tiny, kind, name, adapter):
    advice = contract.said(name, "REFUSES")[adapter]
    with pytest.raises(ValueError, match=f"selector '{name}' .*{advice}"):
        contract.composed(contract.model(kind, tiny), contract.composition(selectors=name, adapters=adapter))


@pytest.mark.parametrize("name", MERGING)
@pytest.mark.parametrize("adapter", ["none", "lora"])
def test_what_moves_numbers_of_the_weights_is_refused_on_a_quantised_base(name, adapter):
    """With the advice that helps: beside an adapter it has nothing to move."""
    parts = contract.composition(bases="nf4", adapters=adapter, selectors=name)
    with pytest.raises(ValueError, match=f"selector '{name}' moves .*base 'nf4' stores .*Use `base: none`"):
        compose.check(parts)


@pytest.mark.parametrize("name", [name for name in PLAIN if name not in MERGING])
def test_a_quantised_base_that_would_train_itself_is_refused(name):
    with pytest.raises(
        ValueError, match=r"base 'nf4' stores .* without an adapter they are what trains. Put an adapter"
    ):
        compose.check(contract.composition(bases="nf4", selectors=name))


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (("nothing",), "nothing match no linear layer of LlamaForCausalLM. Its linear layers end in: down_proj, "),
        (("layers.1",), "layers.1 match no linear layer"),
        (("all-linear", "q_proj"), "all-linear stands beside q_proj"),
        (("",), "names no layer"),
    ],
)
@pytest.mark.parametrize(("name", "setting"), [("neuroada", "targets"), ("spiel", "targets"), ("cofitune", "modules")])
def test_targets_that_match_nothing_are_refused_by_the_name_of_their_setting(tiny, name, setting, targets, message):
    chosen = contract.part("selectors", name, **{setting: targets})
    with pytest.raises(ValueError, match=f"{name}.{setting}:? {message}"):
        chosen.method.choose(contract.model("llama", tiny), chosen.config, contract.probe(), 0)


@pytest.mark.parametrize("name", [name for name in SELECTORS if name != "all"])
def test_a_selector_trains_as_many_numbers_as_its_card_says(tiny, kind, name):
    count = contract.said(name, "trainable")
    assert count, f"tests/methods/test_{name}.py says nothing of what trains"
    parts = contract.composition(selectors=name, adapters=ADAPTER[name])
    attached, optimizer = contract.composed(contract.model(kind, tiny), parts)
    contract.steps(attached, optimizer, parts, count=1)
    found = sum(p.numel() for p in attached.model.parameters() if p.requires_grad)
    assert found == count(contract.model(kind, tiny), parts.selector.config)


@pytest.mark.parametrize("name", SELECTORS)
def test_a_choice_is_a_function_of_the_seed(tiny, name):
    parts = contract.composition(selectors=name, adapters=ADAPTER[name])

    def losses(shared):
        def attach(model, config, start):
            torch.manual_seed(0)  # of an adapter's first weights
            attached = parts.adapter.method.attach(model, config, start)
            torch.manual_seed(shared)
            return attached

        adapter = replace(parts.adapter, method=replace(parts.adapter.method, attach=attach))
        attached, optimizer = contract.composed(contract.model("llama", tiny), replace(parts, adapter=adapter))
        contract.steps(attached, optimizer, parts)
        return contract.losses(compose.merge(attached.model, parts))

    first = losses(1)
    assert torch.equal(losses(2), first), "a selector draws from the seed it is given, and from nothing else"


@pytest.mark.parametrize("name", MERGING)
@pytest.mark.parametrize("dtype", contract.DTYPES, ids=str)
def test_merged_weights_compute_the_same_function(tiny, kind, name, dtype):
    parts = contract.composition(selectors=name)
    attached, optimizer = contract.composed(contract.model(kind, tiny, dtype), parts)
    contract.steps(attached, optimizer, parts)
    expected = contract.losses(attached.model)
    merged = compose.merge(attached.model, parts)
    assert {n for n, _ in merged.named_parameters()} == {n for n, _ in contract.model(kind, tiny).named_parameters()}
    tolerance = 1e-4 if dtype is torch.float32 else 0.1
    torch.testing.assert_close(contract.losses(merged), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("dtype", contract.DTYPES, ids=str)
def test_what_is_saved_is_a_plain_model(tiny, kind, tmp_path, name, dtype):
    parts = contract.composition(selectors=name)
    attached, optimizer = contract.composed(contract.model(kind, tiny, dtype), parts, hasty=True)
    contract.steps(attached, optimizer, parts)
    _, tokenizer = checkpoints.load(tiny)
    store.save(attached, parts, tokenizer, tmp_path / "saved")
    loaded, _ = checkpoints.load(tmp_path / "saved", dtype=contract.named(dtype))
    for (key, found), wanted in zip(loaded.named_parameters(), plain(attached.model).parameters(), strict=True):
        assert torch.equal(found, wanted), key


def selecting(name):
    """A training's parts with this selector, and its adapter where it needs one."""
    parts = {"none": FULL, "lora": LORA}[ADAPTER[name]]
    return replace(parts, selector=contract.part("selectors", name))


@pytest.mark.parametrize("name", SELECTORS)
def test_killed_and_resumed_it_ends_in_the_bytes_of_a_straight_run(tiny, tmp_path, name):
    straight, resumed = straight_and_resumed(tiny, tmp_path, selecting(name))
    tensors = [{**outcome.attached.trainable, **outcome.attached.kept} for outcome in (straight, resumed)]
    assert all(torch.equal(tensors[1][key], tensor) for key, tensor in tensors[0].items())
    assert tensors[0].keys() == tensors[1].keys()


@pytest.mark.parametrize("name", SELECTORS)
def test_below_the_floor_nothing_moves(tiny, tmp_path, name):
    plan = change(PLAN, accumulation=1, epochs=1, save_every=1, floor=100.0)
    expected = contract.losses(contract.model("llama", tiny))
    outcome, steps = train(tiny, tmp_path, selecting(name), plan, SEQUENCES[:6])
    assert steps
    assert torch.equal(contract.losses(outcome.model), expected)
    state = torch.load(max(tmp_path.glob("checkpoint-*")) / "optimizer.pt", weights_only=True)["state"]
    assert state == {}, "nor does the optimizer's state"


@pytest.mark.parametrize("name", MERGING)
def test_what_a_selector_puts_beside_weights_is_in_full_precision(tiny, kind, name):
    parts = contract.composition(selectors=name)
    attached, _ = contract.composed(contract.model(kind, tiny, torch.bfloat16), parts)
    assert {parameter.dtype for parameter in attached.trainable.values()} == {torch.float32}


@pytest.mark.parametrize("name", MERGING)
def test_a_checkpoint_of_another_selection_is_refused_in_one_sentence(tiny, tmp_path, name):
    parts, plan, few = selecting(name), change(PLAN, epochs=3), SEQUENCES[:12]
    with pytest.raises(Killed):
        train(tiny, tmp_path, parts, plan, few, kill_at=4)
    for checkpoint in tmp_path.glob("checkpoint-*"):
        saved = load_file(checkpoint / checkpointing.WEIGHTS)
        first = min(saved)
        saved[first] = saved[first].new_zeros(3, 5)
        save_file(saved, checkpoint / checkpointing.WEIGHTS)
    with pytest.raises(ValueError, match=r"holds other weights than train now \(.* is 3 × 5 there, and .* now\)"):
        train(tiny, tmp_path, parts, plan, few)


def test_a_checkpoint_of_other_layers_is_refused_in_one_sentence(tiny, tmp_path, monkeypatch):
    """What trains has another name where whole weights are chosen."""
    parts, plan, few = selecting("kappatune"), change(PLAN, epochs=3), SEQUENCES[:12]
    with pytest.raises(Killed):
        train(tiny, tmp_path, parts, plan, few, kill_at=4)
    pick = kappatune.pick
    monkeypatch.setattr(kappatune, "pick", lambda ordered, *others: pick(ordered[::-1], *others))
    with pytest.raises(ValueError, match=r"holds other weights than train now \(.*weight is on one side alone\)"):
        train(tiny, tmp_path, parts, plan, few)


@pytest.mark.parametrize("name", MERGING)
def test_gradients_and_the_optimizers_state_are_as_large_as_what_trains(tiny, kind, name):
    """Three numbers of four bytes for each that trains, within a tenth: nothing is kept for what is frozen."""
    parts = contract.composition(selectors=name)
    attached, optimizer = contract.composed(contract.model(kind, tiny), parts)
    contract.steps(attached, optimizer, parts)
    gradients = sum(p.grad.nbytes for p in attached.model.parameters() if p.grad is not None)
    state = sum(tensor.nbytes for held in optimizer.state.values() for tensor in held.values())
    count = sum(p.numel() for p in attached.trainable.values())
    assert 12 * count <= gradients + state < 1.1 * 12 * count


@pytest.mark.parametrize("name", MERGING)
def test_what_stands_beside_weights_decays_as_they_would(tiny, name):
    parts = contract.composition(selectors=name)
    attached, _ = contract.composed(contract.model("llama", tiny), parts)
    assert [(group.name, group.decay) for group in compose.groups(attached, parts)] == [("matrices", True)]


@pytest.mark.parametrize(
    ("chosen", "frozen"),
    [
        ({"selector": contract.part("selectors", "neuroada")}, True),
        ({"selector": contract.part("selectors", "spiel")}, True),
        ({"selector": contract.part("selectors", "kappatune")}, True),
        ({"selector": contract.part("selectors", "lisa")}, False),
        ({"adapter": contract.part("adapters", "lora")}, True),
        ({"adapter": contract.part("adapters", "lora", targets=("q_proj",))}, False),
    ],
    ids=["neuroada", "spiel", "kappatune", "lisa", "lora", "lora of a layer"],
)
def test_experts_that_a_part_leaves_frozen_are_reported(tiny, tmp_path, chosen, frozen):
    experts = {"moe_intermediate_size": 24, "shared_expert_intermediate_size": 40, "num_experts": 4}
    model = small.family("qwen2_moe", vocab_size=259, num_experts_per_tok=2, **experts)
    fused = sum(p.numel() for n, p in model.named_parameters() if p.ndim == 3)
    tokenizer, run = AutoTokenizer.from_pretrained(tiny), ScratchRun(tmp_path)
    parts = replace(FULL, **chosen)
    how = {"settings": {}, "run": run, "base": tiny, "output": tmp_path / "model", "compute": small.FP32}
    job.execute(model, tokenizer, engine.TrainData(SEQUENCES[:12]), parts=parts, config=PLAN, **how)
    told = [text for text in run.said if text.startswith(f"{fused:,} weights of experts stayed frozen")]
    assert len(told) == frozen, run.said
