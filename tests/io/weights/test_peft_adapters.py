"""Adapters that peft wrote elsewhere are measured as they are, or refused by their name."""

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from tasks.io.weights import checkpoints

IDS = torch.arange(20)[None]


def save(base, folder, *, rows=0, **settings):
    """Write a LoRA of the base, with so many rows more for its vocabulary, and return what its model computes."""
    model, _ = checkpoints.load(base)
    if rows:
        model.resize_token_embeddings(model.config.vocab_size + rows)
    attached = peft.get_peft_model(model, peft.LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM", **settings))
    for parameter in attached.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    attached.save_pretrained(folder)
    with torch.no_grad():
        return attached(IDS).logits


@pytest.mark.filterwarnings("ignore::peft.utils.warning.PeftWarning")
def test_a_lora_with_a_bias_is_not_merged_and_computes_what_it_did(tiny, tmp_path):
    expected = save(tiny, tmp_path, lora_bias=True)
    with torch.no_grad():
        assert torch.allclose(checkpoints.load(tmp_path, tiny)[0](IDS).logits, expected, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`")
def test_an_adapter_of_a_grown_vocabulary_is_refused_by_its_name(tiny, tmp_path):
    save(tiny, tmp_path, rows=1)
    with pytest.raises(ValueError, match=f"{tmp_path.name} does not fit the model it is put on: .*size mismatch"):
        checkpoints.load(tmp_path, tiny)


def test_an_adapter_whose_file_lacks_the_tensors_of_a_layer_is_refused(tiny, tmp_path):
    save(tiny, tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    save_file({f"_orig_mod.{name}": tensor for name, tensor in load_file(file).items()}, file)
    with pytest.raises(ValueError, match=r"does not fit .*missing adapter keys"):
        checkpoints.load(tmp_path, tiny)
