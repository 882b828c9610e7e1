"""Constrained decoding: whatever its weights, a model writes calls that the schemas of the tools allow, in its template's form."""

import json
import sys

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tasks.core.answers import schemas
from tasks.core.answers.tool_call import calls
from tasks.core.records import Message, ToolCall
from tasks.engine.chat_template import written_answer
from tasks.engine.inference import generation, grammar
from tasks.stages.fetch.random_init import byte_tokenizer
from tests.engine.chat_templates import FAMILIES, Family, tokenizer

WORD = {"type": "string", "maxLength": 4}
PLACE = {"type": "object", "properties": {"far": {"type": "boolean"}}, "required": ["far"]}
PARAMETERS = {
    "half": {
        "type": "object",
        "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 99}, "by": {"enum": ["a", "é"]}},
        "required": ["n"],
    },
    "ha-lf.é": {"properties": {"word": WORD, "at": {"$ref": "#/$defs/place"}}, "$defs": {"place": PLACE}},
    "now": {},
}
ONE_ARGUMENT = {"type": "object", "properties": {"word": WORD}, "required": ["word"]}
ASKED = [[Message("user", text)] for text in ("Half of 8, please?", "b", "Well, well, well?", "é" * 9, "now")]
LEARNT = '<tool_call>\n{"name": "half", "arguments": {"n": 12}}\n</tool_call> half word far 0123456789 "é" false true'
MISTRAL = Family(
    "{%- for tool in tools or [] -%}{{- tool | tojson -}}{%- endfor -%}{%- for message in messages -%}"
    '{%- if message.tool_calls -%}{{- \'[TOOL_CALLS] [{"name":"\' + message.tool_calls[0].function.name + \'","arguments":\' -}}'
    "{{- message.tool_calls[0].function.arguments | tojson(separators=(',', ':')) + '}]</s>' -}}{%- else -%}"
    "{{- '[' + message.role + ']' + message.content + '</s>' -}}{%- endif -%}{%- endfor -%}",
    ("[TOOL_CALLS]", "</s>"),
    "</s>",
)
"""Calls after a control token, and JSON without spaces."""
TOKENIZERS = {
    "bytes": lambda: byte_tokenizer(tools=True),
    "qwen2.5": lambda: tokenizer(FAMILIES["qwen2.5"], merged=LEARNT * 9),
    "llama3.1": lambda: tokenizer(FAMILIES["llama3.1"], name="llama3.1"),
    "mistral": lambda: tokenizer(MISTRAL),
}


def listed(parameters):
    return json.dumps(
        [{"type": "function", "function": {"name": name, "parameters": each}} for name, each in parameters.items()]
    )


TOOLS = [listed(PARAMETERS)] * 3 + [listed({"say": ONE_ARGUMENT})] * 2


def random_model(words):
    """A model of random weights, which writes no text that anybody would take for a call."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    end = words.eos_token_id
    padded = len(words) + 5  # more logits than tokens, as many models have
    config = LlamaConfig(vocab_size=padded, **sizes, initializer_range=0.3, bos_token_id=None, eos_token_id=end)
    return LlamaForCausalLM(config).eval()


@pytest.fixture(params=TOKENIZERS)
def pair(request):
    words = TOKENIZERS[request.param]()
    return random_model(words), words


@pytest.fixture
def bytewise():
    words = byte_tokenizer(tools=True)
    return random_model(words), words


def written(pair, tools=TOOLS, places=(0, 1, 2, 3, 4), batch_size=5, **options):
    asked = [ASKED[place] for place in places]
    settings = {"max_new_tokens": 120, "batch_size": batch_size, "tools": [tools[place] for place in places]} | options
    return generation.respond(pair[0], asked, pair[1], **settings)


def drawn(temperature=1.0):
    return generation.Sampling(temperature, 1.0, [f"key {place}" for place in range(len(ASKED))])


@pytest.mark.parametrize("sampling", [None, drawn(3.0)], ids=["greedy", "drawn"])
def test_whatever_a_model_would_write_its_calls_are_valid_and_as_its_template_writes_them(pair, sampling):
    _, words = pair
    found = written(pair, constrained=True, sampling=sampling)
    for prompt, tools, response in zip(ASKED, TOOLS, found, strict=True):
        assert response.ended
        form = words.decode(words(response.text, add_special_tokens=False)["input_ids"], skip_special_tokens=True)
        (call,) = calls(response.text)
        assert schemas.broken_call(call["name"], call["arguments"], schemas.of_tools(tools)) is None
        again = written_answer(
            [*prompt, Message("assistant", "", [ToolCall(call["name"], json.dumps(call["arguments"]))])], words, tools
        )
        ids = words(again.text, add_special_tokens=False)["input_ids"]
        assert words.decode(ids, skip_special_tokens=True) == form


def test_a_model_that_is_not_constrained_writes_no_call_and_what_it_wrote_before(bytewise):
    plain = written(bytewise, max_new_tokens=20)
    assert not any(list(calls(response.text)) for response in plain)
    assert written(bytewise, max_new_tokens=20, constrained=False) == plain
    mixed = written(bytewise, [TOOLS[0], None, TOOLS[2], None, None], constrained=True)
    free = written(bytewise, [TOOLS[0], None, TOOLS[2], None, None])
    assert [mixed[place] for place in (1, 3, 4)] == [free[place] for place in (1, 3, 4)]
    assert [mixed[place] for place in (0, 2)] != [free[place] for place in (0, 2)]


def test_a_call_does_not_depend_on_what_shares_its_batch(bytewise):
    together = written(bytewise, constrained=True)
    assert together == written(bytewise, constrained=True, batch_size=2)
    assert together == [written(bytewise, places=[place], constrained=True)[0] for place in range(len(ASKED))]
    assert len({response.text for response in together}) > 2
    by_key = written(bytewise, constrained=True, sampling=drawn())
    assert by_key == written(bytewise, constrained=True, sampling=drawn(), batch_size=1) != together


def test_neither_a_code_block_nor_a_stop_text_breaks_a_call_off(bytewise):
    model, words = bytewise
    fences = listed({"say": {"properties": {"word": {"const": "```a``` STOP b"}}, "required": ["word"]}})
    (response,) = written((model, words), [fences], places=[0], constrained=True, stop=["STOP"])
    assert [call["arguments"] for call in calls(response.text)] == [{"word": "```a``` STOP b"}]


def test_a_call_that_is_too_long_is_cut_off_and_said_to_be(bytewise):
    (response,) = written(bytewise, places=[0], constrained=True, max_new_tokens=20)
    assert not response.ended
    assert response.tokens_written == 20
    assert list(calls(response.text)) == []


def test_the_default_models_tokenizer_is_held_too(smollm):
    from transformers import AutoTokenizer

    words = AutoTokenizer.from_pretrained(smollm)
    words.chat_template = byte_tokenizer(tools=True).chat_template
    (response,) = written((random_model(words), words), places=[0], constrained=True)
    (call,) = calls(response.text)
    assert schemas.broken_call(call["name"], call["arguments"], schemas.of_tools(TOOLS[0])) is None


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"not": {"required": ["n"]}}, r"Unimplemented keys: \[.not.\]\. Leave that out"),
        ({"properties": {"n": {"type": "string", "format": "wibble"}}}, "Unknown format: wibble"),
        ({"properties": {"n": {"type": "string", "pattern": "(?=a)"}}}, "look-ahead"),
        ({"properties": {"n": {"$ref": "https://example.com/n"}}}, "leads to no place within it"),
    ],
)
def test_a_schema_that_the_library_cannot_keep_to_is_refused_by_the_name_of_its_tool(bytewise, parameters, sentence):
    tools = listed({"good": ONE_ARGUMENT, "bad": {"type": "object"} | parameters})
    with pytest.raises(
        ValueError, match=f"(?s)evaluate.constrained: (broken tools: )?the parameters of 'bad'.*{sentence}"
    ):
        written(bytewise, [tools], places=[0], constrained=True)


@pytest.mark.parametrize(
    ("template", "sentence"),
    [
        (
            FAMILIES["smollm2"].template,
            "chat template writes no calls of tools: it leaves out the schemas of the tools",
        ),
        (
            FAMILIES["qwen2.5"].template.replace("arguments | tojson", "arguments | tojson(indent=2)"),
            "takes arguments as JSON on one line",
        ),
    ],
)
def test_a_template_that_writes_no_calls_or_other_ones_is_refused(bytewise, template, sentence):
    words = bytewise[1]
    words.chat_template = template
    with pytest.raises(ValueError, match=sentence):
        grammar.Constraint(words, [words.eos_token_id], [TOOLS[0]])


def test_without_the_library_what_would_bring_it_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(ValueError, match=r'pip install "ratchet-llm\[constrained\]"'):
        grammar.library()


def test_nobody_loads_the_library_who_does_not_ask_for_it(bytewise, monkeypatch):
    monkeypatch.setitem(sys.modules, "llguidance", None)
    assert len(written(bytewise, max_new_tokens=2)) == len(ASKED)
