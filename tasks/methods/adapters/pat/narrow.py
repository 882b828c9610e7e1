"""Narrow models to fewer hidden channels: which models allow it, which widths are possible, and the resulting plain model."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, LlamaConfig

from tasks.core.weights import surgery

NARROWED = ("llama", "qwen2", "qwen3")
"""Model types that can be narrowed: their residual stream is read only through RMSNorms and linear layers."""
WRITERS = ("o_proj", "down_proj")
"""The linear layers whose outputs are added to the residual stream. All others of a decoder layer read from it."""
OF_THE_CLASS = {"model_type", "architectures", "transformers_version"}
"""The keys of a config that identify its class."""


def kept_width(config: Any, wanted: int | None) -> int:
    """Return the hidden size after narrowing: `wanted`, or three quarters of the model's.

    `config` is the model's. Raises ValueError for a model that cannot be narrowed, and for a width that it cannot have.
    """
    if config.model_type not in NARROWED:
        raise ValueError(
            f"pat narrows LLaMA, Qwen2 and Qwen3 models, whose hidden channels are read through RMSNorms alone, and this is a {config.model_type}. "
            "Take another adapter."
        )
    if config.model_type == "qwen2" and config.use_sliding_window:
        raise ValueError(
            "pat writes a narrowed Qwen2 as a LLaMA, which has no sliding window, and this one uses it. Take another adapter."
        )
    hidden, heads = config.hidden_size, config.num_attention_heads
    width = wanted or 3 * hidden // 4 // heads * heads
    if width >= hidden:
        raise ValueError(
            f"methods.pat.width {width} is not below the model's {hidden} hidden channels: take at most {(hidden - 1) // heads * heads}."
        )
    if width % heads or not width:
        below = width // heads * heads
        possible = [str(size) for size in (below, below + heads) if 0 < size < hidden]
        raise ValueError(
            f"methods.pat.width {width} is not a multiple of the model's {heads} attention heads, as transformers asks of a LLaMA: "
            f"take {' or '.join(possible)}."
        )
    return width


def written_energy(model: nn.Module) -> Tensor:
    """Return the energy of the weights that write to each hidden channel, (H,), in float64; every matrix has the same weight.

    Raises ValueError if weights are quantised.
    """
    inner: Any = surgery.plain(model)
    writers = surgery.linears(inner, WRITERS).values()
    rows_HX = [inner.get_input_embeddings().weight.T, *(layer.weight for layer in writers)]
    energies = [matrix.detach().double().square().sum(dim=1) for matrix in rows_HX]
    return torch.stack([energy_H / energy_H.mean() for energy_H in energies]).sum(dim=0)


def linear(weight_OI: Tensor, bias_O: Tensor | None, like: Tensor) -> nn.Linear:
    """Return a linear layer with these weights in the dtype of `like`."""
    outputs, inputs = weight_OI.shape
    layer = nn.Linear(inputs, outputs, bias=bias_O is not None, device="meta")
    layer.weight = nn.Parameter(weight_OI.to(like.dtype), requires_grad=False)
    if bias_O is not None:
        layer.bias = nn.Parameter(bias_O.to(like.dtype), requires_grad=False)
    return layer


@torch.no_grad()
def rebuilt(model: Any, kept_H: Tensor) -> nn.Module:
    """Return the plain model of these channels. In `model` the embedding and the linear layers of decoder layers are narrowed already."""
    config, width = model.config, int(kept_H.sum())
    gain = (config.hidden_size / width) ** 0.5
    for norm in _norms(model):
        norm.weight = nn.Parameter((gain * norm.weight.double()[kept_H]).to(norm.weight.dtype))
    head = model.get_output_embeddings()
    model.set_output_embeddings(linear(head.weight[:, kept_H], head.bias, head.weight))
    if config.model_type == "qwen2":
        for output in surgery.linears(model, "o_proj").values():
            output.bias = nn.Parameter(output.weight.new_zeros(width))
    narrow_config = _narrowed(config, width)
    with torch.device("meta"):
        narrow = AutoModelForCausalLM.from_config(narrow_config)
    narrow.load_state_dict(model.state_dict(), assign=True)
    narrow.model.rotary_emb = type(narrow.model.rotary_emb)(narrow_config).to(kept_H.device)
    narrow.generation_config = model.generation_config
    return narrow.train(model.training)


def _norms(model: Any) -> list[Any]:
    """Return the norms through which the residual stream is read, without those of heads."""
    layers: Any = surgery.decoder_layers(model)
    return [
        model.model.norm,
        *(norm for layer in layers for norm in (layer.input_layernorm, layer.post_attention_layernorm)),
    ]


def _narrowed(config: Any, width: int) -> Any:
    """Return the config of a narrowed model: attention heads have the same width as before, and the output head is not tied."""
    facts = config.to_dict() | {
        "hidden_size": width,
        "head_dim": getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
        "rms_norm_eps": config.rms_norm_eps * config.hidden_size / width,
        "tie_word_embeddings": False,
    }
    if config.model_type != "qwen2":
        return type(config).from_dict(facts)
    shared = LlamaConfig().to_dict().keys() - OF_THE_CLASS
    return LlamaConfig(**{key: value for key, value in facts.items() if key in shared} | {"attention_bias": True})
