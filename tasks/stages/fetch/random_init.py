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
TOOLS_TEMPLATE = """\
{%- set system = messages[0]['content'] if messages[0]['role'] == 'system' else '' -%}
{%- if system or tools -%}{{- '<|im_start|>system\n' + system -}}
{%- for tool in tools or [] -%}
{%- set schema = tool['function'].get('parameters') or {} -%}
{{- ('\n' if system or not loop.first else '') + tool['function']['name'] + '(' -}}
{%- for name, value in schema.get('properties', {}).items() -%}
{{- (', ' if not loop.first else '') + name + ('' if name in schema.get('required', []) else '?') + ': ' -}}
{{- value['type'] if value['type'] is string else value | tojson -}}
{%- endfor -%}{{- ')' -}}
{%- endfor -%}{{- '<|im_end|>\n' -}}{%- endif -%}
{%- for message in messages -%}{%- if not (loop.first and message['role'] == 'system') -%}
{{- '<|im_start|>' + message['role'] + '\n' + (message['content'] or '') -}}
{%- for call in message['tool_calls'] or [] -%}
{{- '\n' if message['content'] or not loop.first else '' -}}
{{- '<tool_call>\n{"name": ' + call['function']['name'] | tojson + ', "arguments": ' + call['function']['arguments'] | tojson -}}
{{- '}\n</tool_call>' -}}
{%- endfor -%}{{- '<|im_end|>\n' -}}
{%- endif -%}{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}"""
"""ChatML with tools as signatures, and calls as Qwen and Hermes write them."""


def byte_tokenizer(*, tools: bool = False) -> Any:
    """Return a tokenizer of the 256 bytes and the special tokens of ChatML; with `tools`, its chat template writes tools."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: index for index, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=SPECIAL[2], pad_token=SPECIAL[0])
    fast.chat_template = TOOLS_TEMPLATE if tools else CHAT_TEMPLATE
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
