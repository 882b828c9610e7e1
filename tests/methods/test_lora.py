"""LoRA is W + (alpha / rank) B A, on the layers it was told."""

from dataclasses import replace

import pytest
import torch

from tasks.core.training import Start
from tasks.core.weights import surgery
from tasks.methods.adapters.lora.config import LoraConfig
from tasks.methods.adapters.lora.method import attach
from tests import tiny as small
from tests.methods import contract, deep

SMALL = {"rank": 4}


def trainable(model, params):
    """r (in + out) for every layer."""
    return sum(params.rank * (m.in_features + m.out_features) for m in surgery.linears(model, params.targets).values())


def layer(model, name="q_proj"):
    return dict(model.get_base_model().named_modules())[f"model.layers.0.self_attn.{name}"]


@pytest.mark.parametrize(("rslora", "scale"), [(False, 12 / 4), (True, 12 / 2)])
def test_the_update_is_scaled_as_the_paper_says(tiny, rslora, scale):
    found = layer(attach(small.load(tiny), LoraConfig(rank=4, alpha=12, rslora=rslora), Start()))
    torch.nn.init.normal_(found.lora_B["default"].weight)
    x = torch.randn(5, found.in_features, generator=torch.Generator().manual_seed(0))
    weight = found.base_layer.weight + scale * found.lora_B["default"].weight @ found.lora_A["default"].weight
    torch.testing.assert_close(found(x), x @ weight.T)


def test_all_linear_is_every_linear_layer_but_the_head(tiny):
    model = small.load(tiny)
    linears = {n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)} - {"lm_head"}
    adapted = {
        n for n, m in attach(model, LoraConfig(), Start()).get_base_model().named_modules() if hasattr(m, "lora_A")
    }
    assert adapted == linears


def test_all_linear_of_a_model_that_sees_is_every_linear_layer_of_its_decoder():
    attached = attach(deep.multimodal(layers=1), LoraConfig(rank=2), Start())
    adapted = {n for n, m in attached.get_base_model().named_modules() if hasattr(m, "lora_A")}
    assert {name.rpartition("layers.0.")[0] for name in adapted} == {"model.language_model."}
    assert len(adapted) == 7


def test_all_linear_of_a_mixture_leaves_out_the_gate_of_its_shared_expert():
    experts = {"moe_intermediate_size": 24, "shared_expert_intermediate_size": 40, "num_experts": 4}
    model = small.family("qwen2_moe", num_experts_per_tok=2, **experts)
    known = {n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)} - {"lm_head"}
    gates = {name for name in known if name.endswith(".shared_expert_gate")}
    attached = attach(model, LoraConfig(rank=4, targets="all-linear"), Start()).get_base_model()
    assert {n for n, m in attached.named_modules() if hasattr(m, "lora_A")} == known - gates
    assert len(gates) == 2


def test_only_the_named_targets_are_adapted(tiny):
    model = attach(small.load(tiny), LoraConfig(targets=("v_proj",)), Start())
    assert hasattr(layer(model, "v_proj"), "lora_A")
    assert not hasattr(layer(model, "q_proj"), "lora_A")


def test_a_target_that_is_missing_is_refused_even_beside_one_that_is_there(tiny):
    with pytest.raises(ValueError, match="targets w_proj match no linear layer of LlamaForCausalLM"):
        attach(small.load(tiny), LoraConfig(targets=("q_proj", "w_proj")), Start())


def test_a_rank_above_a_layer_is_refused_by_its_name(tiny):
    attach(small.load(tiny), LoraConfig(rank=32), Start())
    with pytest.raises(ValueError, match=r"rank 33 is above .*k_proj, whose weight is 32 × 64: take at most 32\."):
        attach(small.load(tiny), LoraConfig(rank=33), Start())


@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False")
def test_gpt2_whose_weights_lie_the_other_way_is_adapted_too():
    model = attach(small.gpt2(), LoraConfig(rank=4, targets=("c_attn",)), Start())
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 2 * 4 * (48 + 3 * 48)
    with pytest.raises(ValueError, match=r"rank 49 is above .*c_attn, whose weight is 144 × 48"):
        attach(small.gpt2(), LoraConfig(rank=49, targets=("c_attn",)), Start())


@pytest.mark.parametrize("wrong", [{"rank": 0}, {"alpha": 0}, {"dropout": 1}, {"rnak": 4}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LoraConfig(**wrong)


NEMOTRON_H = {
    "hybrid_override_pattern": "M*-",
    "mamba_num_heads": 4,
    "mamba_head_dim": 16,
    "ssm_state_size": 8,
    "n_groups": 1,
}
GRANITE_4 = {
    "layer_types": ["mamba", "attention"],
    "shared_intermediate_size": 64,
    "mamba_n_heads": 4,
    "mamba_d_head": 16,
    "mamba_n_groups": 1,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
}


JAMBA = {
    "attn_layer_period": 2,
    "attn_layer_offset": 1,
    "expert_layer_period": 2,
    "num_experts": 2,
    "mamba_dt_rank": 8,
    "use_mamba_kernels": False,
}


@pytest.mark.parametrize(
    ("name", "config", "left_out"),
    [
        ("nemotron_h", NEMOTRON_H, {"out_proj"}),
        ("mamba2", {"num_heads": 4, "head_dim": 16, "n_groups": 1, "state_size": 8}, {"out_proj"}),
        ("granitemoehybrid", GRANITE_4, {"out_proj"}),
        (
            "bamba",
            {"attn_layer_indices": [1], "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_n_groups": 1},
            {"out_proj"},
        ),
        ("mamba", {"time_step_rank": 8}, {"x_proj", "dt_proj", "out_proj"}),
        ("jamba", JAMBA, {"dt_proj"}),
    ],
)
def test_all_linear_leaves_out_the_layers_that_are_read_past_an_adapter(name, config, left_out):
    model = small.family(name, **config)
    linears = {name.rpartition(".")[2] for name in surgery.linears(model, surgery.ALL_LINEAR)}
    adapted = attach(model, LoraConfig(rank=4), Start()).get_base_model()
    assert {n.rpartition(".")[2] for n, m in adapted.named_modules() if hasattr(m, "lora_A")} == linears - left_out
    assert left_out <= linears
    adapted(input_ids=torch.arange(12)[None], labels=torch.arange(12)[None]).loss.backward()
    unmoved = [n for n, p in adapted.named_parameters() if "lora_B" in n and not p.grad.any()]
    assert all("experts" in name for name in unmoved), unmoved  # no token may go to one


@pytest.mark.parametrize("name", ["fourierft", "ia3", "lokr", "oft", "vera"])
def test_nor_do_pefts_other_adapters_hold_what_no_training_moves(name):
    adapter = contract.part("adapters", name, targets="all-linear")
    parts = replace(contract.composition(), adapter=adapter)
    attached, optimizer = contract.composed(small.family("jamba", vocab_size=259, **JAMBA), parts)
    unmoved = attached.trainable.keys() - contract.steps(attached, optimizer, parts, 3)
    assert all("experts" in parameter for parameter in unmoved), unmoved  # no token may go to one


@pytest.mark.parametrize("name", ["fourierft", "lora", "vera"])
def test_a_layer_that_is_read_past_an_adapter_is_refused_where_it_is_named(name):
    parts = replace(contract.composition(), adapter=contract.part("adapters", name, targets=["in_proj", "dt_proj"]))
    with pytest.raises(ValueError, match="targets dt_proj: recurrent layers of JambaForCausalLM read their weights"):
        contract.composed(small.family("jamba", vocab_size=259, **JAMBA), parts)


ZAMBA_2 = {
    "mamba_d_state": 8,
    "n_mamba_heads": 4,
    "mamba_headdim": 16,
    "mamba_ngroups": 1,
    "layers_block_type": ["mamba", "hybrid"],
    "hybrid_layer_ids": [1],
    "num_mem_blocks": 1,
    "adapter_rank": 8,
}


@pytest.mark.parametrize("name", ["ia3", "lora", "oft"])
def test_layers_that_are_named_by_numbers_are_adapted_and_decoder_layers_are_not(name):
    parts = replace(contract.composition(), adapter=contract.part("adapters", name, targets="all-linear"))
    model = small.family("zamba2", vocab_size=259, **ZAMBA_2)
    linears = {n for n in surgery.sizes(model, surgery.ALL_LINEAR) if not n.endswith(".out_proj")}
    assert any(name[-1].isdigit() for name in linears)
    attached, _ = contract.composed(model, parts)
    assert set(surgery.owners(attached.model).values()) == linears


def test_experts_in_one_tensor_take_no_dropout_and_the_layers_that_do_are_named():
    sizes = {"head_dim": 8, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
    with pytest.raises(
        ValueError, match=r"`dropout: 0`, or set `targets` .*: k_proj, o_proj, q_proj, v_proj\.$"
    ) as told:
        attach(small.family("qwen3_moe", **sizes), LoraConfig(rank=4, dropout=0.1), Start())
    targets = tuple(str(told.value).rpartition(": ")[2].rstrip(".").split(", "))
    attach(small.family("qwen3_moe", **sizes), LoraConfig(rank=4, dropout=0.1, targets=targets), Start())
