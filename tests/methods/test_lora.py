"""LoRA is W + (alpha / rank) B A, on the layers it was told."""

import pytest
import torch

from tasks.methods.adapters.lora import LoraParams, attach
from tests import tiny as small


def layer(model, name="q_proj"):
    return dict(model.get_base_model().named_modules())[f"model.layers.0.self_attn.{name}"]


@pytest.mark.parametrize(("rslora", "scale"), [(False, 12 / 4), (True, 12 / 2)])
def test_the_update_is_scaled_as_the_paper_says(tiny, rslora, scale):
    found = layer(attach(small.load(tiny), LoraParams(rank=4, alpha=12, rslora=rslora)))
    torch.nn.init.normal_(found.lora_B["default"].weight)
    x = torch.randn(5, found.in_features, generator=torch.Generator().manual_seed(0))
    weight = found.base_layer.weight + scale * found.lora_B["default"].weight @ found.lora_A["default"].weight
    torch.testing.assert_close(found(x), x @ weight.T)


def test_all_linear_is_every_linear_layer_but_the_head(tiny):
    model = small.load(tiny)
    linears = {n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)} - {"lm_head"}
    adapted = {n for n, m in attach(model, LoraParams()).get_base_model().named_modules() if hasattr(m, "lora_A")}
    assert adapted == linears


def test_only_the_named_targets_are_adapted(tiny):
    model = attach(small.load(tiny), LoraParams(targets=("v_proj",)))
    assert hasattr(layer(model, "v_proj"), "lora_A")
    assert not hasattr(layer(model, "q_proj"), "lora_A")


def test_targets_that_match_nothing_are_refused_by_name(tiny):
    with pytest.raises(ValueError, match="w_proj"):
        attach(small.load(tiny), LoraParams(targets=("w_proj",)))


@pytest.mark.parametrize("wrong", [{"rank": 0}, {"alpha": 0}, {"dropout": 1}, {"rnak": 4}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LoraParams(**wrong)
