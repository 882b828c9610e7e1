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
