"""What trains of models of 3 to 15 billion weights is what the authors of a study of unit tests counted: shapes alone, without numbers."""

import peft
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from tasks.core.training import Start
from tests.methods import contract
from tests.methods.official import frozen

COUNTS = frozen("unit_test_counts")["models"]
ATTENTION = ("q_proj", "v_proj")


def trains(model):
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


@pytest.mark.parametrize("name", COUNTS, ids=lambda name: name.rpartition("/")[2])
@pytest.mark.parametrize("method", ["lora", "ia3", "prompt"])
def test_as_many_numbers_train_as_the_study_counts(name, method):
    told = COUNTS[name]
    last = (told["last"],)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**told["shape"]))
        match method:
            case "lora":
                part = contract.part("adapters", "lora", rank=16, alpha=32, targets=ATTENTION)
            case "ia3":
                part = contract.part("adapters", "ia3", targets=(*ATTENTION, *last), feedforward=last)
            case "prompt":
                config = peft.PromptTuningConfig(num_virtual_tokens=20, task_type="CAUSAL_LM")
                assert trains(peft.get_peft_model(model, config)) == told[method]
                return
        assert trains(part.method.attach(model, part.config, Start())) == told[method]


PHI_4_MINI = {
    "model_type": "phi3", "hidden_size": 3072, "num_hidden_layers": 32, "num_attention_heads": 24, "num_key_value_heads": 8,
    "intermediate_size": 8192, "vocab_size": 200_064, "pad_token_id": 0, "tie_word_embeddings": True,
}  # fmt: skip


def of_phi(**settings):
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**PHI_4_MINI))
        part = contract.part("adapters", "lora", rank=16, alpha=32, **settings)
        return trains(part.method.attach(model, part.config, Start()))


def test_lora_of_fused_projections_trains_as_many_numbers_as_their_shapes_ask_for():
    fused = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")
    by_shape = 32 * 16 * ((3072 + 5120) + (3072 + 3072) + (3072 + 2 * 8192) + (8192 + 3072))
    assert of_phi(targets="all-linear") == of_phi(targets=fused) == by_shape == 23_068_672


def test_a_projection_that_a_fused_model_does_not_have_is_refused_by_name():
    with pytest.raises(ValueError, match="q_proj"):
        of_phi(targets=("q_proj", "k_proj", "v_proj"))
