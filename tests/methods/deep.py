"""Models of several layers that differ, for methods that add some."""

import torch
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from tests import tiny as small

SIZES = {
    "vocab_size": 259,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.2,
    "bos_token_id": None,
    "eos_token_id": None,
}


def llama(layers=6, **config):
    """A LLaMA of random weights; its projections have biases where asked for."""
    torch.manual_seed(1)
    model = LlamaForCausalLM(LlamaConfig(**SIZES, num_hidden_layers=layers, max_position_embeddings=256, **config))
    return with_biases(model)


def gpt2():
    """A GPT-2 of random weights and biases."""
    return with_biases(small.gpt2())


def with_biases(model):
    """The model with biases that are not zero."""
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter)
    return model


def qwen3(layers=4, window=None):
    """A Qwen3 of random weights: norms of queries and keys, tied embeddings; the upper half attends to a `window` where given."""
    torch.manual_seed(1)
    sliding = {"use_sliding_window": True, "sliding_window": window, "max_window_layers": layers // 2} if window else {}
    return Qwen3ForCausalLM(
        Qwen3Config(**SIZES, num_hidden_layers=layers, head_dim=8, tie_word_embeddings=True, **sliding)
    )


def multimodal(layers=4):
    """A Gemma 3 of random weights, with a vision tower beside the decoder."""
    torch.manual_seed(1)
    text = {**SIZES, "num_hidden_layers": layers, "head_dim": 8, "sliding_window": 8}
    sight = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = Gemma3Config(
        text_config=text,
        vision_config={**sight, "image_size": 28, "patch_size": 14},
        mm_tokens_per_image=4,
    )
    return Gemma3ForConditionalGeneration(config)
