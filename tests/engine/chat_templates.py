"""Chat templates in the style of known model families, written by hand, with the control tokens that each needs."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Family:
    """A template, the control tokens of its tokenizer, and the token that ends a text."""

    template: str
    controls: tuple[str, ...]
    end: str
    """The text that ends an assistant's turn."""
    system: bool = True
    tools: bool = False


CHATML = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
FAMILIES = {
    "smollm2": Family(
        "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
        "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}"
        "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
        CHATML,
        "<|im_end|>",
    ),
    "qwen2.5": Family(
        """{%- if messages[0].role == 'system' -%}{%- set system = messages[0].content -%}{%- set turns = messages[1:] -%}
{%- else -%}{%- set system = 'You are a helpful assistant.' -%}{%- set turns = messages -%}{%- endif -%}
{{- '<|im_start|>system\n' + system -}}
{%- if tools -%}
{{- '\n\n# Tools\n\n<tools>' -}}{%- for tool in tools -%}{{- '\n' + (tool | tojson) -}}{%- endfor -%}{{- '\n</tools>' -}}
{%- endif -%}
{{- '<|im_end|>\n' -}}
{%- for message in turns -%}
{%- if message.role == 'tool' -%}
{%- if loop.first or turns[loop.index0 - 1].role != 'tool' -%}{{- '<|im_start|>user' -}}{%- endif -%}
{{- '\n<tool_response>\n' + message.content + '\n</tool_response>' -}}
{%- if loop.last or turns[loop.index0 + 1].role != 'tool' -%}{{- '<|im_end|>\n' -}}{%- endif -%}
{%- elif message.tool_calls -%}
{{- '<|im_start|>assistant' -}}{%- if message.content -%}{{- '\n' + message.content -}}{%- endif -%}
{%- for call in message.tool_calls -%}
{{- '\n<tool_call>\n{"name": "' + call.function.name + '", "arguments": ' + (call.function.arguments | tojson) + '}\n</tool_call>' -}}
{%- endfor -%}{{- '<|im_end|>\n' -}}
{%- else -%}{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' -}}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}""",
        CHATML,
        "<|im_end|>",
        tools=True,
    ),
    "llama3.1": Family(
        """{{- bos_token -}}
{%- if messages[0].role == 'system' -%}{%- set system = messages[0].content | trim -%}{%- set turns = messages[1:] -%}
{%- else -%}{%- set system = '' -%}{%- set turns = messages -%}{%- endif -%}
{{- '<|start_header_id|>system<|end_header_id|>\n\n' -}}
{%- if tools -%}{{- 'Environment: ipython\n' -}}
{%- for tool in tools -%}{{- (tool | tojson(indent=4)) + '\n\n' -}}{%- endfor -%}{%- endif -%}
{{- system + '<|eot_id|>' -}}
{%- for message in turns -%}
{%- if message.tool_calls -%}
{{- '<|start_header_id|>assistant<|end_header_id|>\n\n{"name": "' + message.tool_calls[0].function.name + '", "parameters": ' -}}
{{- (message.tool_calls[0].function.arguments | tojson) + '}<|eot_id|>' -}}
{%- elif message.role == 'tool' -%}
{{- '<|start_header_id|>ipython<|end_header_id|>\n\n' + (message.content | tojson) + '<|eot_id|>' -}}
{%- else -%}
{{- '<|start_header_id|>' + message.role + '<|end_header_id|>\n\n' + (message.content | trim) + '<|eot_id|>' -}}
{%- endif -%}{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' -}}{%- endif -%}""",
        ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        "<|eot_id|>",
        tools=True,
    ),
    "mistral": Family(
        """{{- bos_token -}}{%- for message in messages -%}
{%- if message.role == 'user' -%}{{- '[INST] ' + message.content + ' [/INST]' -}}
{%- elif message.role == 'assistant' -%}{{- ' ' + message.content + eos_token -}}
{%- else -%}{{- raise_exception('Only user and assistant roles are supported!') -}}{%- endif -%}{%- endfor -%}""",
        ("<s>", "</s>"),
        "</s>",
        system=False,
    ),
    "gemma": Family(
        """{{- bos_token -}}{%- for message in messages -%}
{%- if message.role == 'system' -%}{{- raise_exception('System role not supported') -}}{%- endif -%}
{%- set role = 'model' if message.role == 'assistant' else message.role -%}
{{- '<start_of_turn>' + role + '\n' + (message.content | trim) + '<end_of_turn>\n' -}}{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<start_of_turn>model\n' -}}{%- endif -%}""",
        ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"),
        "<end_of_turn>",
        system=False,
    ),
    "phi3": Family(
        """{%- for message in messages -%}{{- '<|' + message.role + '|>\n' + message.content + '<|end|>\n' -}}{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>\n' -}}{%- else -%}{{- eos_token -}}{%- endif -%}""",
        ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|endoftext|>"),
        "<|end|>",
    ),
}
REASONING = Family(
    """{%- for message in messages -%}{%- set content = message.content -%}
{%- if message.role == 'assistant' and not loop.last and '</think>' in content -%}
{%- set content = content.split('</think>')[-1].lstrip('\n') -%}{%- endif -%}
{{- '<|im_start|>' + message.role + '\n' + content + '<|im_end|>\n' -}}{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}""",
    CHATML,
    "<|im_end|>",
)
"""A template that leaves the reasoning of earlier answers out."""
OPENING = Family(
    REASONING.template.replace("'<|im_start|>assistant\n'", "'<|im_start|>assistant\n<think>\n'"),
    CHATML,
    "<|im_end|>",
)
"""A template that also opens the reasoning in the prompt, like those of Qwen3-Thinking."""
CUTTING = Family(OPENING.template.replace("and not loop.last ", ""), CHATML, "<|im_end|>")
"""A template that leaves the reasoning of every answer out, like that of DeepSeek-R1."""
FIRST, LAST = (
    {"gemma": "<bos>", "mistral": "<s>", "llama3.1": "<|begin_of_text|>"},
    {"gemma": "<eos>", "phi3": "<|endoftext|>"},
)


PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""The regular expression by which Qwen2 splits a text before it forms tokens."""


def tokenizer(family: Family, *, name: str = "", merged: str = "") -> Any:
    """Return a tokenizer of bytes, or of byte pairs learnt from a text, with the template and the control tokens of a family."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={letter: index for index, letter in enumerate(alphabet)}, merges=[]))
    cut = pre_tokenizers.Split(Regex(PIECES), "isolated")
    core.pre_tokenizer = pre_tokenizers.Sequence([cut, pre_tokenizers.ByteLevel(False, use_regex=False)])
    core.decoder = decoders.ByteLevel()
    if merged:
        trainer = trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet, show_progress=False)
        core.train_from_iterator([merged], trainer)
    core.add_special_tokens([AddedToken(token, special=True) for token in family.controls])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token=FIRST.get(name), eos_token=LAST.get(name, family.end)
    )
    fast.chat_template = family.template
    return fast
