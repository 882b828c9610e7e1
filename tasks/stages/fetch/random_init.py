"""A model with random weights and its tokenizer, small enough to test every stage in seconds."""

from typing import Any

from tasks.core.imports import lasting
from tasks.stages.fetch.config import FromConfig

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""ChatML, the template of the default base model."""


def byte_tokenizer() -> Any:
    """Return a tokenizer whose tokens are the 256 bytes and the special tokens of ChatML."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: index for index, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=SPECIAL[2], pad_token=SPECIAL[0])
    fast.chat_template = CHAT_TEMPLATE
    return fast


def random_model(from_config: FromConfig, vocabulary: int, end: int, pad: int) -> Any:
    """Return a LLaMA with tied embeddings and random weights.

    Raises ValueError if the heads do not divide the hidden size.
    """
    with lasting():
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM

    if from_config.hidden % from_config.heads or from_config.heads % from_config.kv_heads:
        raise ValueError(
            f"fetch.model: heads={from_config.heads} must divide hidden={from_config.hidden}, and kv_heads={from_config.kv_heads} must divide heads."
        )
    torch.manual_seed(from_config.seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=from_config.hidden,
        intermediate_size=from_config.mlp,
        num_hidden_layers=from_config.layers,
        num_attention_heads=from_config.heads,
        num_key_value_heads=from_config.kv_heads,
        max_position_embeddings=from_config.context,
        tie_word_embeddings=True,
        eos_token_id=end,
        bos_token_id=end,
        pad_token_id=pad,
        dtype="float32",
    )
    return LlamaForCausalLM(config)
