"""Models of several different layers, for methods that add layers."""

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
    """Return a LLaMA of random weights, with biases of its projections on request."""
    torch.manual_seed(1)
    model = LlamaForCausalLM(LlamaConfig(**SIZES, num_hidden_layers=layers, max_position_embeddings=256, **config))
    return with_biases(model)


def gpt2():
    """Return a GPT-2 of random weights and biases."""
    return with_biases(small.gpt2())


def with_biases(model):
    """Return the model with biases that are not zero."""
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter)
    return model


def qwen3(layers=4, window=None):
    """Return a Qwen3 of random weights, with norms of queries and keys and tied embeddings. With `window`, the upper half of its layers attends to that many tokens."""
    torch.manual_seed(1)
    sliding = {"use_sliding_window": True, "sliding_window": window, "max_window_layers": layers // 2} if window else {}
    return Qwen3ForCausalLM(
        Qwen3Config(**SIZES, num_hidden_layers=layers, head_dim=8, tie_word_embeddings=True, **sliding)
    )


def multimodal(layers=4):
    """Return a Gemma 3 of random weights, with a vision tower beside the decoder."""
    torch.manual_seed(1)
    text = {**SIZES, "num_hidden_layers": layers, "head_dim": 8, "sliding_window": 8}
    sight = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = Gemma3Config(
        text_config=text,
        vision_config={**sight, "image_size": 28, "patch_size": 14},
        mm_tokens_per_image=4,
    )
    return Gemma3ForConditionalGeneration(config)
