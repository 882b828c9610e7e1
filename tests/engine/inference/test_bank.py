"""Several adapters on one base in memory: going from one to another changes neither, nor the base, and reads nothing."""

import json
import shutil

import numpy as np
import pytest
import torch

from tasks import methods
from tasks.core.records import Message
from tasks.engine.inference import generation, prompt_encoding
from tasks.engine.inference.bank import Bank, Routed
from tasks.io.weights import banks, checkpoints
from tasks.methods.routers import Router
from tests import tiny as small
from tests.io.weights.test_merges import trained
from tests.methods import contract

FIT = [name for name in methods.names("adapters") if not banks.unfit(name)]


def bank_of(folder, base, *members):
    """A bank of adapters that some steps have made, by task and method, in the order of their names."""
    made = {}
    for number, (task, method) in enumerate(members):
        path = trained(folder / task, base, seed=number, adapters=method)
        hidden = np.full((2, 4, checkpoints.load(base)[0].config.hidden_size), float(number), np.float32)
        np.save(path / banks.CENTROID, hidden)
        made[task] = banks.Member(task, checkpoints.weights_digest(path), 10)
    banks.write_card(folder, made, method={"adapter": members[0][1]}, parent=checkpoints.weights_digest(base))
    return folder


@pytest.fixture(scope="module")
def folder(tiny, tmp_path_factory):
    return bank_of(tmp_path_factory.mktemp("bank"), tiny, ("count", "lora"), ("colour", "lora"))


def test_from_one_to_another_and_back_nothing_changes(folder, tiny):
    alone = contract.losses(checkpoints.load(tiny)[0])
    bank = Bank(folder, tiny)
    start = {name: tensor.clone() for name, tensor in bank.base.named_parameters()}
    count, colour = (contract.losses(bank.model(name)) for name in ("count", "colour"))
    assert torch.equal(contract.losses(bank.model("count")), count)
    assert torch.equal(contract.losses(bank.model(None)), alone)
    assert torch.equal(contract.losses(bank.model("colour")), colour)
    assert not torch.equal(count, colour)
    assert not torch.equal(count, alone)
    assert all(torch.equal(tensor, start[name]) for name, tensor in bank.base.named_parameters())


def test_members_hold_the_bases_own_tensors_and_are_not_read_again(folder, tiny, tmp_path):
    copied = shutil.copytree(folder, tmp_path / "bank")
    bank = Bank(copied, tiny)
    base = {tensor.data_ptr() for tensor in bank.base.parameters()}
    for name in bank.names:
        held = {tensor.data_ptr() for tensor in bank.model(name).parameters()}
        assert base <= held
    shutil.rmtree(copied)
    assert [contract.losses(bank.model(name)).shape for name in ("colour", "count")]


@pytest.mark.parametrize("method", FIT)
@pytest.mark.parametrize("dtype", contract.DTYPES, ids=str)
def test_a_member_computes_what_it_computes_alone(tiny, tmp_path, method, dtype):
    folder = bank_of(tmp_path, tiny, ("one", method), ("other", "lora"))
    bank = Bank(folder, tiny, dtype=contract.named(dtype))
    before = contract.losses(bank.base)
    other, one = contract.losses(bank.model("other")), contract.losses(bank.model("one"))
    merged, _ = checkpoints.load(folder / "one", tiny)
    tolerance = 1e-4 if dtype is torch.float32 else 0.1
    torch.testing.assert_close(one.float(), contract.losses(merged), rtol=0, atol=tolerance)
    assert torch.equal(contract.losses(bank.base), before)
    assert torch.equal(contract.losses(bank.model("other")), other)


def test_a_member_that_is_factored_from_its_base_is_not_factored_from_rounded_weights(tiny, tmp_path):
    base, model = tmp_path / "base", small.load(tiny)
    for layer in model.model.layers:  # the larger one is the pivot; in bf16 they are equal, and the first one is
        layer.self_attn.v_proj.weight.data[:2, 0] = torch.tensor([1.0, 1.001])
    model.save_pretrained(base)
    checkpoints.load_tokenizer(tiny).save_pretrained(base)
    folder = bank_of(tmp_path / "bank", base, ("one", "loldu"))
    found = contract.losses(Bank(folder, base, dtype="bfloat16").model("one")).float()
    expected = contract.losses(checkpoints.load(folder / "one", base)[0])
    torch.testing.assert_close(found, expected, rtol=0, atol=0.1)


def test_a_prompt_is_routed_once_and_it_is_told_what_went_where(folder, tiny, monkeypatch):
    routed, asked = Routed(Bank(folder, tiny), "task", {}), []
    by_task = methods.load("routers", "task").route

    def noting(prompts, bank, config):
        asked.extend(prompts.tasks)
        return by_task(prompts, bank, config)

    monkeypatch.setattr(routed, "_method", Router(route=noting))
    prompts, tasks = [[1, 2], [1, 3], [1, 2], [7]], ["count", "colour", "count", "general"]
    assert routed.route(prompts, tasks) == ["count", "colour", "count", None]
    assert routed.route(prompts[:2], tasks[:2]) == ["count", "colour"]
    assert asked == ["count", "colour", "general"]
    assert routed.record() == {
        "router": "task",
        "adapters": 2,
        "sent": {"count": {"count": 1}, "colour": {"colour": 1}, "general": {"": 1}},
        "to_own": 1.0,
    }


def test_what_a_member_writes_for_a_router_is_what_it_would_answer(folder, tiny, monkeypatch):
    routed, prompts, found = (
        Routed(Bank(folder, tiny), "task", {}),
        [[Message("user", "How many?")], [Message("user", "?")]],
        {},
    )

    def asking(asked, bank, config):
        for samples, kind in ((1, "likeliest"), (3, "drawn"), (3, "again")):
            found[kind] = asked.write("count", [1, 0], samples=samples, temperature=2.0, max_new_tokens=6)
        found["alone"] = asked.write("count", [0], samples=3, temperature=2.0, max_new_tokens=6)
        return [None] * len(asked.tasks)

    monkeypatch.setattr(routed, "_method", Router(route=asking))
    bank = routed.bank
    routed.route(prompt_encoding.ids_of(prompts, bank.tokenizer))
    alone = generation.write(bank.model("count"), prompts, bank.tokenizer, max_new_tokens=6, batch_size=2)
    assert found["likeliest"] == [[alone[1]], [alone[0]]]
    assert found["drawn"] == found["again"]
    assert found["alone"] == found["drawn"][1:], "what is drawn for a prompt does not depend on others"
    assert all(len(set(texts)) > 1 for texts in found["drawn"])


def spoilt(folder, tmp_path, change):
    copied = shutil.copytree(folder, tmp_path / "bank")
    change(copied)
    return copied


def another_parent(copied):
    card = json.loads((copied / "count" / checkpoints.CARD).read_text())
    (copied / "count" / checkpoints.CARD).write_text(json.dumps(card | {"parent": "0" * 64}))


def another_method(name):
    def change(copied):
        card = json.loads((copied / "count" / checkpoints.CARD).read_text())
        card["method"]["adapter"] = name
        (copied / "count" / checkpoints.CARD).write_text(json.dumps(card))

    return change


def other_weights(copied):
    shutil.copy(copied / "colour" / checkpoints.PEFT_WEIGHTS, copied / "count" / checkpoints.PEFT_WEIGHTS)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (another_parent, r"count was trained on weights 000000000000, but the base of the bank, .* All adapters of a bank have one"),
        (another_method("mola"), r"count cannot be in a bank: adapter 'mola' does not merge"),
        (another_method("pat"), r"count cannot be in a bank: adapter 'pat' makes the base narrower"),
        (another_method("none"), r"count cannot be in a bank: without an adapter the base itself changes"),
        (other_weights, r"count holds weights .*, and the card of bank .* says"),
        (lambda copied: shutil.rmtree(copied / "count"), r"count holds no adapter, and .* is a bank with one for task 'count'"),
    ],
)  # fmt: skip
def test_a_member_that_does_not_fit_is_named(folder, tiny, tmp_path, change, sentence):
    with pytest.raises(ValueError, match=sentence):
        Bank(spoilt(folder, tmp_path, change), tiny)


def test_a_bank_is_no_one_model(folder, tiny):
    with pytest.raises(
        ValueError,
        match=r"is a bank of 2 adapters, and here one model is needed\. Name one of them: .*/colour, .*/count",
    ):
        checkpoints.load(folder, tiny)
