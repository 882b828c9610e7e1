"""An adapter that peft made without Ratchet is measured and trained on, or refused by what differs."""

from dataclasses import replace

import peft
import pytest
import torch

from tasks.core.training import SavedAdapter
from tasks.engine.training import compose, start, store
from tasks.io import pinned
from tasks.io.weights import checkpoints
from tests import tiny as small
from tests.methods import contract

TARGETS = ["q_proj", "down_proj"]
MADE = {
    "lora": (
        peft.LoraConfig(r=3, lora_alpha=5, target_modules=TARGETS, use_rslora=True, init_lora_weights="gaussian"),
        {"rank": 3, "alpha": 5, "targets": TARGETS, "rslora": True},
    ),
    "dora": (
        peft.LoraConfig(r=2, lora_alpha=6, target_modules=TARGETS, use_dora=True, lora_dropout=0.2),
        {"rank": 2, "alpha": 6, "targets": TARGETS, "dropout": 0.0},
    ),
    "oft": (
        peft.OFTConfig(oft_block_size=8, target_modules=TARGETS, use_cayley_neumann=False),
        {"block_size": 8, "targets": TARGETS, "neumann": False},
    ),
}
"""peft's settings of an adapter, and ours of the method that trains on from it."""


def make(base, folder, config):
    """The model with a moved adapter of peft's, which is saved to `folder`."""
    torch.manual_seed(4)
    model = peft.get_peft_model(small.load(base), config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    return model


def begun(folder, base, name, settings):
    """The model whose training starts from the adapter in `folder`."""
    part = contract.part("adapters", name, **settings)
    parts = replace(contract.composition(adapters=name), adapter=part)
    place = start.folder_of(SavedAdapter(path=str(folder), digest=pinned.digest(folder)), base, part)
    return compose.compose(small.load(base), parts, contract.probe(), 0, saved=place), parts


@pytest.mark.parametrize("name", MADE)
def test_it_is_measured_as_peft_computes_it(tiny, tmp_path, name):
    made = make(tiny, tmp_path / "made", MADE[name][0])
    found = contract.losses(checkpoints.load(tmp_path / "made", tiny)[0])
    torch.testing.assert_close(found, contract.losses(made), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(found, contract.losses(small.load(tiny)), rtol=0, atol=1e-2)


@pytest.mark.parametrize("name", MADE)
def test_a_training_goes_on_from_it_and_saves_what_peft_reads(tiny, tmp_path, name):
    config, settings = MADE[name]
    made = make(tiny, tmp_path / "made", config)
    attached, parts = begun(tmp_path / "made", tiny, name, settings)
    assert torch.equal(contract.losses(attached.model), contract.losses(made))
    optimizer = parts.optimizer.method.make(compose.groups(attached, parts), parts.optimizer.config, 0)
    assert contract.steps(attached, optimizer, parts) == set(attached.trainable)
    store.save(attached, parts, None, tmp_path / "saved")
    again = peft.PeftModel.from_pretrained(small.load(tiny), str(tmp_path / "saved"))
    assert torch.equal(contract.losses(again), contract.losses(attached.model))


LORA = {"rank": 3, "alpha": 5, "targets": TARGETS, "rslora": True}


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("lora", {**LORA, "alpha": 6}, r"was made with lora_alpha: 5, and it is 6\.0 here\. .* under methods\.lora"),
        ("lora", {**LORA, "rslora": False}, "was made with use_rslora: True, and it is False here"),
        ("lora", {**LORA, "rank": 2}, "does not fit the model it is put on"),
        ("lora", {**LORA, "targets": ["q_proj"]}, "does not fit the model it is put on"),
        (
            "dora",
            MADE["dora"][1],
            "was made with lora_alpha: 5, and it is|was made with use_dora: False, and it is True here",
        ),
        ("oft", MADE["oft"][1], "was made with peft_type: LORA, and it is OFT here"),
        ("mola", {}, "is an adapter of method unknown, and tune.adapter is mola"),
    ],
)
def test_an_adapter_of_other_settings_is_refused_by_the_first_that_differs(tiny, tmp_path, name, settings, words):
    make(tiny, tmp_path / "made", MADE["lora"][0])
    with pytest.raises(ValueError, match=words):
        begun(tmp_path / "made", tiny, name, settings)


def test_an_adapter_that_took_weights_out_of_its_base_is_no_start(tiny, tmp_path):
    make(tiny, tmp_path / "made", peft.LoraConfig(r=3, lora_alpha=5, target_modules=TARGETS, init_lora_weights="pissa"))
    with pytest.raises(ValueError, match="was made with init_lora_weights: pissa, and it is True here"):
        begun(tmp_path / "made", tiny, "lora", {"rank": 3, "alpha": 5, "targets": TARGETS})


def test_a_pickled_adapter_is_not_opened(tiny, tmp_path):
    make(tiny, tmp_path / "made", MADE["lora"][0])
    (tmp_path / "made" / "adapter_model.safetensors").rename(tmp_path / "made" / "adapter_model.bin")
    for opening in (
        lambda: checkpoints.load(tmp_path / "made", tiny),
        lambda: begun(tmp_path / "made", tiny, "lora", LORA),
    ):
        with pytest.raises(ValueError, match=r"has no adapter_model\.safetensors\. Save the adapter as safetensors"):
            opening()


@pytest.mark.parametrize(
    "config",
    [
        peft.PromptTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM"),
        peft.AdaptionPromptConfig(adapter_len=2, adapter_layers=1, task_type="CAUSAL_LM"),
        peft.PolyConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"),
    ],
    ids=lambda config: config.peft_type.value,
)
def test_what_is_no_change_of_weights_is_refused_by_its_kind(tiny, tmp_path, config):
    peft.get_peft_model(small.load(tiny), config).save_pretrained(tmp_path / "made")
    with pytest.raises(ValueError, match=f"is a {config.peft_type.value} adapter, which is not a change of weights"):
        checkpoints.load(tmp_path / "made", tiny)


@pytest.mark.filterwarnings("ignore::UserWarning:peft")
@pytest.mark.parametrize("targets", [["lm_head"], ["embed_tokens", "q_proj"], ["embed_tokens", "lm_head"]])
@pytest.mark.parametrize("dtype", contract.DTYPES, ids=str)
def test_an_adapter_of_tied_embeddings_changes_what_it_changed_in_training_alone(tiny, tmp_path, targets, dtype):
    made = make(tiny, tmp_path / "made", peft.LoraConfig(r=3, target_modules=targets))
    assert small.load(tiny).config.tie_word_embeddings
    loaded, _ = checkpoints.load(tmp_path / "made", tiny, dtype=contract.named(dtype))
    found, expected = (model(torch.arange(9)[None]).logits.float() for model in (loaded, made.eval()))
    tolerance = 1e-4 if dtype is torch.float32 else 0.1
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
