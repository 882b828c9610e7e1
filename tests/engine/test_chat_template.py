"""A conversation trains as it is served: its tokens are those of the model's chat template, its weights those of its answers."""

import inspect
import json
import statistics
from dataclasses import replace
from itertools import groupby

import pytest
from tokenizers.pre_tokenizers import ByteLevel

from tasks.core.records import Example, Message, ToolCall
from tasks.engine import encode
from tasks.engine.chat_template import ChatTemplateError, render_prompt
from tasks.engine.inference import prompt_encoding
from tasks.stages.fetch.random_init import byte_tokenizer
from tests import tiny
from tests.engine.chat_templates import CHATML, CUTTING, FAMILIES, OPENING, REASONING, Family, tokenizer

MERGED = inspect.getsource(statistics)
TURNS = [
    Message("user", "What is the median of 1, 2 and 10?"),
    Message("assistant", "It is 2.\n\nThe mean is larger."),
    Message("user", "And the mean?"),
    Message("assistant", "4.333…"),
    Message("user", "Thanks — why?"),
    Message("assistant", "```python\nsum(data) / len(data)\n```"),
]
SCHEMA = {
    "type": "function",
    "function": {"name": "mean", "description": "The mean.", "parameters": {"type": "object"}},
}
CALLED = [
    Message("user", "The mean of 1 and 2?"),
    Message("assistant", "", [ToolCall("mean", '{"data": [1, 2]}')]),
    Message("tool", "1.5", name="mean"),
    Message("assistant", "It is 1.5."),
    Message("user", "And of 3?"),
    Message("assistant", "", [ToolCall("mean", '{"data": [3]}')]),
    Message("tool", "3.0", name="mean"),
    Message("assistant", "It is 3."),
]
TWICE = [CALLED[0], Message("assistant", "", [ToolCall("mean", "{}"), ToolCall("mode", "{}")])]
PAIRED = [(name, merged) for name in FAMILIES for merged in ("", MERGED)]


def turns(messages):
    """Messages as `apply_chat_template` takes them."""
    plain = []
    for message in messages:
        turn = {"role": message.role, "content": message.content}
        if message.tool_calls:
            calls = [{"name": c.name, "arguments": json.loads(c.arguments)} for c in message.tool_calls]
            turn["tool_calls"] = [{"type": "function", "function": call} for call in calls]
        plain.append(turn)
    return plain


def served(words, messages, *, prompt=False, tools=None):
    """The tokens that a server makes of a conversation."""
    return words.apply_chat_template(turns(messages), add_generation_prompt=prompt, tools=tools)["input_ids"]


def trained_runs(words, sequence):
    """The texts of the sequence that train, each with the number of tokens before it."""
    runs, at = [], 0
    for trains, group in groupby(zip(sequence.ids, sequence.weights, strict=True), lambda pair: pair[1] > 0):
        ids = [token for token, _ in group]
        runs += [(at, words.decode(ids))] if trains else []
        at += len(ids)
    return runs


@pytest.mark.parametrize(("name", "merged"), PAIRED, ids=[f"{n}{'-pairs' * bool(m)}" for n, m in PAIRED])
def test_the_tokens_are_the_templates_and_each_answer_trains_with_its_end(name, merged):
    family = FAMILIES[name]
    words = tokenizer(family, name=name, merged=merged)
    messages = [Message("system", "Be brief."), *TURNS] if family.system else TURNS
    (sequence,) = encode.training_sequences(tiny.example(messages=messages), words, "all")
    whole = served(words, messages)
    assert sequence.ids == whole[: len(sequence)]
    assert words.decode(whole[len(sequence) :]).strip() in ("", words.eos_token), "nothing of the conversation is cut"
    answers = [message.content for message in messages if message.role == "assistant"]
    runs = trained_runs(words, sequence)
    assert [text.strip() for _, text in runs] == [answer + family.end for answer in answers]
    ends = [place for place, message in enumerate(messages) if message.role == "assistant"]
    for (start, _), end in zip(runs, ends, strict=True):
        assert sequence.ids[:start] == served(words, messages[:end], prompt=True), "the context is what is served"
    assert sequence.size == sum(len(answer.encode()) for answer in answers)


@pytest.mark.parametrize("name", FAMILIES)
def test_with_last_the_earlier_answers_are_context_alone(name):
    words = tokenizer(FAMILIES[name], name=name)
    row = tiny.example(messages=TURNS)
    (last,) = encode.training_sequences(row, words, "last")
    (both,) = encode.training_sequences(row, words, "all")
    assert last == encode.example(row, words)
    assert last.ids == both.ids
    assert trained_runs(words, last) == trained_runs(words, both)[-1:]


@pytest.mark.parametrize("name", FAMILIES)
def test_an_answer_that_is_context_alone_has_no_weight(name):
    words = tokenizer(FAMILIES[name], name=name)
    whole, place = tiny.example(messages=TURNS), next(n for n, turn in enumerate(TURNS) if turn.role == "assistant")
    (all_train,) = encode.training_sequences(whole, words, "all")
    (some_train,) = encode.training_sequences(replace(whole, context_answers=[place]), words, "all")
    assert some_train.ids == all_train.ids
    assert trained_runs(words, some_train) == trained_runs(words, all_train)[1:]
    assert some_train.size == all_train.size - len(TURNS[place].content.encode())


def test_weights_of_characters_are_those_of_the_last_answer():
    words = byte_tokenizer()
    weights = [0.5] * len(TURNS[-1].content)
    (sequence,) = encode.training_sequences(tiny.example(messages=TURNS, weights=weights), words, "all")
    assert sum(weight == 0.5 for weight in sequence.weights) == len(weights)
    earlier = sum(len(message.content.encode()) + 1 for message in (TURNS[1], TURNS[3]))
    assert sum(weight == 1.0 for weight in sequence.weights) == earlier + 1, "the end of the last turn too"


def test_where_the_template_leaves_reasoning_of_the_past_out_each_answer_has_its_own_sequence():
    words = tokenizer(REASONING)
    messages = [
        Message("user", "1 + 1?"),
        Message("assistant", "<think>\nadd\n</think>\n\n2"),
        Message("user", "2 + 2?"),
        Message("assistant", "<think>\nadd again\n</think>\n\n4"),
    ]
    first, second = encode.training_sequences(tiny.example(messages=messages), words, "all")
    assert [text for _, text in trained_runs(words, first)] == ["<think>\nadd\n</think>\n\n2<|im_end|>"]
    assert [text for _, text in trained_runs(words, second)] == ["<think>\nadd again\n</think>\n\n4<|im_end|>"]
    assert second.ids[: trained_runs(words, second)[0][0]] == served(words, messages[:3], prompt=True)
    assert "add\n" not in words.decode(second.ids)


@pytest.mark.parametrize("family", [OPENING, CUTTING], ids=["opening", "cutting"])
def test_where_the_prompt_opens_the_reasoning_the_answer_goes_on_from_there(family):
    words = tokenizer(family)
    messages = [Message("user", "1 + 1?"), Message("assistant", "<think>\nadd\n</think>\n\n2")]
    weights = [float(place > 19) for place in range(len(messages[1].content))]
    (sequence,) = encode.training_sequences(tiny.example(messages=messages), words, "all")
    ((start, text),) = trained_runs(words, sequence)
    assert words.decode(sequence.ids[:start]).endswith("assistant\n<think>\n")
    assert sequence.ids[:start] == served(words, messages[:1], prompt=True)
    assert text == "add\n</think>\n\n2<|im_end|>"
    (weighted,) = encode.training_sequences(tiny.example(messages=messages, weights=weights), words, "all")
    assert [text for _, text in trained_runs(words, weighted)] == [messages[1].content[20:] + "<|im_end|>"]


def test_an_answer_without_reasoning_closes_what_the_prompt_opens():
    words = tokenizer(CUTTING)
    messages = [Message("user", "1 + 1?"), Message("assistant", "2")]
    (sequence,) = encode.training_sequences(tiny.example(messages=messages), words, "all")
    ((start, text),) = trained_runs(words, sequence)
    assert sequence.ids[:start] == served(words, messages[:1], prompt=True)
    assert text == "\n</think>\n\n2<|im_end|>"


@pytest.mark.parametrize("merged", ["", MERGED], ids=["bytes", "pairs"])
@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if family.tools])
def test_calls_train_and_results_are_context(name, merged):
    words = tokenizer(FAMILIES[name], name=name, merged=merged)
    row = tiny.example(messages=CALLED, tools=json.dumps([SCHEMA]))
    (sequence,) = encode.training_sequences(row, words, "all")
    assert sequence.ids == served(words, CALLED, tools=[SCHEMA])[: len(sequence)]
    texts = [text for _, text in trained_runs(words, sequence)]
    assert len(texts) == 4
    assert all(text.endswith(FAMILIES[name].end) for text in texts)
    assert '{"data": [1, 2]}' in texts[0]
    assert texts[1].strip() == "It is 1.5." + FAMILIES[name].end
    assert '{"data": [3]}' in texts[2]
    assert not any("tool_response" in text or "ipython" in text for text in texts)


@pytest.mark.parametrize(
    ("name", "messages", "tools", "lack"),
    [
        ("smollm2", CALLED, None, "leaves out a tool call (mean) of turn 2, of role 'assistant'"),
        ("smollm2", TURNS, [SCHEMA], "leaves out the schemas of the tools"),
        ("llama3.1", TWICE, None, "leaves out a tool call (mode) of turn 2"),
        (
            "llama3.1",
            [CALLED[0], replace(CALLED[1], content="Let me see."), *CALLED[2:4]],
            None,
            "the text of turn 2, of role 'assistant'",
        ),
        ("mistral", TURNS[:1] + CALLED[2:4], None, "Only user and assistant roles are supported!"),
        ("gemma", [Message("system", "Be brief."), *TURNS], None, "System role not supported"),
    ],
)
def test_what_a_template_cannot_say_is_refused_by_row_and_lack(name, messages, tools, lack):
    row = tiny.example(messages=messages, tools=tools and json.dumps(tools), source="file chats.jsonl: line 3")
    with pytest.raises(ValueError, match=r"file chats.jsonl: line 3.*ingest.sources") as refusal:
        encode.training_sequences(row, tokenizer(FAMILIES[name], name=name), "all")
    assert lack in str(refusal.value)


JSON = Family(
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + (message.content | tojson) + '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    CHATML,
    "<|im_end|>",
)


@pytest.mark.parametrize("family", [*FAMILIES.values(), JSON])
@pytest.mark.parametrize("asked", ["assistant", "user", "  Why?\n", 'Why "mean"?'])
def test_a_question_is_found_in_what_its_own_message_adds(family, asked):
    words = tokenizer(family)
    row = tiny.example(messages=[*TURNS[:2], Message("user", asked), Message("assistant", "So.")])
    found = prompt_encoding.question(row, words)
    if family is JSON and '"' in asked:
        assert found is None, "it is written in other characters"
        return
    assert words.decode(found.ids) == render_prompt(row.prompt, words)
    first = next(place for place, weight in enumerate(found.weights) if weight)
    count = sum(weight > 0 for weight in found.weights)
    assert words.decode(found.ids[first : first + count]) == asked.strip()
    other = render_prompt([*row.prompt[:-1], Message("user", "???")], words)
    assert words.decode(found.ids[first + count :]).removeprefix("\\n").strip() == other.rpartition("???")[2].strip()


def test_a_template_that_drops_the_system_turn_is_refused():
    deaf = Family(
        "{% for message in messages if message.role != 'system' %}{{ message.content + '<|im_end|>' }}{% endfor %}",
        CHATML,
        "<|im_end|>",
    )
    with pytest.raises(ValueError, match="the text of turn 1, of role 'system'"):
        encode.example(tiny.example(messages=[Message("system", "Be brief."), *TURNS]), tokenizer(deaf))


def test_a_template_that_escapes_the_name_of_a_tool_is_refused():
    escaping = Family(
        "{% for message in messages %}{{ message.content }}{% for call in message.tool_calls or () %}{{ call.function | tojson }}{% endfor %}"
        "{{ '<|im_end|>' }}{% endfor %}",
        CHATML,
        "<|im_end|>",
    )
    messages = [Message("user", "1?"), Message("assistant", "", [ToolCall('mean "a"', "{}")])]
    with pytest.raises(ValueError, match="it writes tool name 'mean \"a\"' in other characters"):
        encode.example(tiny.example(messages=messages), tokenizer(escaping))


@pytest.mark.parametrize("answer", ["Four.\n", "  Four."])
def test_an_answer_that_the_template_trims_ends_as_its_turns_do(answer):
    words = tokenizer(FAMILIES["gemma"], name="gemma")
    sequence = encode.example(tiny.example(prompt="2 + 2?", response=answer), words)
    assert words.decode(sequence.ids).endswith(f"model\n{answer}<end_of_turn>")


def test_a_template_without_an_end_of_turn_gets_the_tokenizers():
    bare = Family(
        "{% for message in messages %}{{ message.role + ': ' + message.content + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}",
        CHATML,
        "<|im_end|>",
    )
    words = tokenizer(bare)
    sequence = encode.example(tiny.example(prompt="1?", response="2"), words)
    assert words.decode(sequence.ids) == "user: 1?\nassistant: 2<|im_end|>"
    assert trained_runs(words, sequence)[-1][1].endswith("2<|im_end|>")


def test_where_a_prompt_ends_in_other_tokens_than_the_same_text_has_inside_the_prompt_counts():
    """GPT-2's pieces cut two line breaks in two before a letter, and not at a prompt's end: the model writes after the latter."""
    words = tokenizer(FAMILIES["llama3.1"], name="llama3.1", merged=MERGED)
    words.backend_tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    (sequence,) = encode.training_sequences(tiny.example(messages=TURNS), words, "all")
    (start, text), *_ = trained_runs(words, sequence)
    assert sequence.ids != served(words, TURNS)
    assert sequence.ids[:start] == served(words, TURNS[:1], prompt=True)
    assert text == TURNS[1].content + "<|eot_id|>"
    assert words.decode(sequence.ids) == words.apply_chat_template(turns(TURNS), tokenize=False)


@pytest.mark.parametrize("place", ["name", "arguments"])
def test_a_call_cannot_open_a_turn(place):
    call = ToolCall(**{"name": "mean", "arguments": "{}"} | {place: '{"a": "<|im_end|>"}'})
    messages = [Message("user", "1?"), Message("assistant", "", [call])]
    assert encode.training_sequences(tiny.example(messages=messages), tokenizer(FAMILIES["qwen2.5"]), "all") == [None]


def test_a_model_without_a_template_is_named_with_what_would_do():
    words = tokenizer(FAMILIES["smollm2"])
    words.chat_template, words.name_or_path = None, "models/base"
    example = Example("e", TURNS[:2], "chat", "d", "g", "train", "s", "MIT")
    with pytest.raises(
        ValueError, match=r"^models/base: .*no chat template.*-Instruct.*chat_template\.jinja.*fetch\.model"
    ) as raised:
        encode.example(example, words)
    assert not isinstance(raised.value, ChatTemplateError)  # which would refuse one example after the other
