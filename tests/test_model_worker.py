"""`transformers serve` with a model that Ratchet loaded: OpenAI's API for this model alone."""

import asyncio
import inspect
import json
import threading
import time

import pytest
from starlette.testclient import TestClient
from transformers.cli.serving import chat_completion, completion, utils

from flows.gateway import backends
from tasks import model_worker
from tasks.core.records import Message
from tasks.engine.inference import generation
from tests import tiny as small
from tests.engine.inference.test_bank import bank_of

ASKED = [Message("user", "Well?")]
CHAT = {"model": "ratchet@3", "messages": [{"role": "user", "content": "Well?"}], "max_tokens": 6, "temperature": 0}
LEARNT = "one two three"
TOOL = {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}


@pytest.fixture(scope="module")
def loaded(tiny):
    return small.decided(tiny)


@pytest.fixture(scope="module")
def client(loaded):
    model, tokenizer = loaded
    app = model_worker.application({"ratchet@3": lambda: model}, tokenizer)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="module")
def expected(loaded):
    model, tokenizer = loaded
    return generation.write(model, [ASKED], tokenizer, max_new_tokens=6, batch_size=1)[0]


def test_it_answers_as_the_model_does_that_was_measured(client, expected):
    answer = client.post("/v1/chat/completions", json=CHAT).json()
    assert answer["choices"][0]["message"]["content"] == expected
    assert answer["model"] == "ratchet@3"
    assert answer["usage"]["completion_tokens"] == 6


def test_it_streams_the_same(client, expected):
    def chunks(**fields):
        lines = client.post("/v1/chat/completions", json=CHAT | {"stream": True} | fields).text.strip().split("\n\n")
        return [json.loads(line.removeprefix("data: ")) for line in lines]

    plain = chunks()
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in plain) == expected
    assert plain[0]["choices"][0]["delta"]["role"] == "assistant"
    assert [chunk["choices"][0].get("finish_reason") for chunk in plain] == [None] * (len(plain) - 1) + ["length"]
    assert not [chunk for chunk in [*plain, *chunks(stream_options={"include_usage": False})] if "usage" in chunk]
    *others, last = chunks(stream_options={"include_usage": True})
    assert [chunk["usage"] for chunk in others] == [None] * len(others)
    assert (last["choices"], last["usage"]["completion_tokens"], last["object"]) == ([], 6, "chat.completion.chunk")


def test_it_completes_texts(client):
    answer = client.post("/v1/completions", json={"model": "ratchet@3", "prompt": "a", "max_tokens": 3}).json()
    assert answer["usage"]["completion_tokens"] <= 3
    assert answer["model"] == "ratchet@3"


def test_an_answer_is_sampled_where_the_request_asks_for_it_and_a_seed_repeats_it(client, expected):
    def answers(*settings):
        told = [client.post("/v1/chat/completions", json=CHAT | changed).json() for changed in settings]
        return [answer["choices"][0]["message"]["content"] for answer in told]

    first, other, again = answers(*({"temperature": 2, "seed": seed} for seed in (1, 2, 1)))
    assert first == again != other
    sampled, greedy, plain = answers(
        {"temperature": None, "top_p": 1, "seed": 1}, {"top_p": 0.5, "seed": 1}, {"temperature": None, "seed": 1}
    )
    assert sampled != expected
    assert greedy == plain == expected


def test_a_seed_repeats_an_answer_though_another_one_is_still_drawn(client, loaded):
    """As where the client of the other one has just gone."""

    def drawn(**settings):
        answer = client.post("/v1/chat/completions", json=CHAT | {"temperature": 2, **settings}).json()
        return answer["choices"][0]["message"]["content"]

    alone, begun = drawn(seed=1), threading.Event()

    def dawdle(*_):
        begun.set()
        time.sleep(0.02)

    hook = loaded[0].register_forward_pre_hook(dawdle)
    try:
        other = threading.Thread(target=lambda: drawn(max_tokens=30))
        other.start()
        begun.wait()
        assert drawn(seed=1) == alone
        other.join()
    finally:
        hook.remove()


def test_the_penalty_of_a_frequency_goes_by_what_the_answer_has(client, loaded):
    """Tokens of the prompt cost nothing, and each further time of one costs as much again."""
    tokenizer = loaded[1]
    first, second = (tokenizer(letter, add_special_tokens=False)["input_ids"][0] for letter in "xy")
    body = CHAT | {"messages": [{"role": "user", "content": "x"}], "logit_bias": {str(first): 101, str(second): 100}}
    scores = []
    hook = loaded[0].register_forward_hook(lambda _model, _inputs, output: scores.append(output.logits[0, -1]))
    try:
        for penalty in (None, 0, 2):
            answer = client.post("/v1/chat/completions", json=body | {"frequency_penalty": penalty})
            text = answer.json()["choices"][0]["message"]["content"]
            costs, expected = {"x": 0.0, "y": 0.0}, ""
            for row in scores:
                sums = {"x": row[first] + 101 - costs["x"], "y": row[second] + 100 - costs["y"]}
                expected += max(sums, key=sums.get)
                costs[expected[-1]] += penalty or 0
            scores.clear()
            assert text == expected
    finally:
        hook.remove()
    assert set(text) == {"x", "y"}


def test_it_serves_no_other_model(client):
    assert client.post("/v1/chat/completions", json=CHAT | {"model": "gpt2"}).status_code == 400
    assert [card["id"] for card in client.get("/v1/models").json()["data"]] == ["ratchet@3"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_beyond_the_context_is_refused_before_anything_is_computed(client, loaded, stream):
    context = loaded[0].config.max_position_embeddings
    long = CHAT | {"messages": [{"role": "user", "content": "a" * context}], "stream": stream}
    completion = {"model": "ratchet@3", "prompt": "a" * 2 * context, "stream": stream}
    for path, body in (("chat/completions", long), ("completions", completion)):
        answer = client.post(f"/v1/{path}", json=body)
        assert answer.status_code == 400
        assert f"tokens, and the context of the model {context:,}" in answer.json()["detail"]


def test_an_answer_ends_with_the_context(client, loaded):
    context = loaded[0].config.max_position_embeddings
    body = {"model": "ratchet@3", "prompt": "a" * (context - 5), "max_tokens": 50, "temperature": 0}
    usage = client.post("/v1/completions", json=body).json()["usage"]
    assert usage["prompt_tokens"] + usage["completion_tokens"] <= context


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_an_answer_that_nobody_waits_for_ends(loaded, path):
    model, tokenizer = loaded
    app = model_worker.application({"ratchet@3": lambda: model}, tokenizer)
    settings = {"model": "ratchet@3", "max_tokens": 100, "temperature": 0, "logit_bias": {tokenizer.eos_token_id: -100}}
    body = json.dumps(settings | ({"prompt": "a"} if path == "/v1/completions" else {"messages": CHAT["messages"]}))
    passes, told = [], threading.Event()

    def count(*_):
        passes.append(None)
        if len(passes) == 3:
            told.set()
            time.sleep(0.5)

    async def leave_early():
        messages = [{"type": "http.request", "body": body.encode()}]

        async def receive():
            if messages:
                return messages.pop()
            await asyncio.to_thread(told.wait)
            return {"type": "http.disconnect"}

        async def send(_message):
            pass

        scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "query_string": b"",
            "root_path": "",
            "http_version": "1.1",
        }
        await app(
            scope | {"scheme": "http", "headers": [(b"content-type", b"application/json")], "server": ("a", 1)},
            receive,
            send,
        )

    hook = model.register_forward_pre_hook(count)
    try:
        asyncio.run(leave_early())
    finally:
        hook.remove()
    assert 3 <= len(passes) < 10


def test_an_image_is_refused_instead_of_being_left_out(client):
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    for parts, status in (
        ([{"type": "text", "text": "Well?"}], 200),
        ([{"type": "text", "text": "Well?"}, image], 400),
    ):
        answer = client.post("/v1/chat/completions", json=CHAT | {"messages": [{"role": "user", "content": parts}]})
        assert answer.status_code == status
    assert answer.json()["detail"] == "it reads text, and a message has a part of type 'image_url'"
    empty = CHAT | {"messages": [{"role": "user", "content": [{"type": "text"}]}]}
    assert client.post("/v1/chat/completions", json=empty).status_code == 400


def test_tokens_are_biased_by_whole_numbers_too(client, loaded):
    token = loaded[1]("x", add_special_tokens=False)["input_ids"][0]
    answer = client.post("/v1/chat/completions", json=CHAT | {"logit_bias": {str(token): 100}})
    assert answer.json()["choices"][0]["message"]["content"] == "x" * 6
    for broken in ({"x": 1}, {"1": "much"}, {"-1": 1}, [1]):
        assert client.post("/v1/chat/completions", json=CHAT | {"logit_bias": broken}).status_code == 400


def test_what_generation_has_no_meaning_for_is_refused_with_its_reason(client, loaded):
    answer = client.post("/v1/chat/completions", json=CHAT | {"logit_bias": {"99999": 1}})
    assert answer.status_code == 400
    assert "vocabulary" in answer.json()["detail"]
    tokenizer, plain = loaded[1], loaded[1].chat_template
    tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    try:
        answer = client.post("/v1/chat/completions", json=CHAT)
    finally:
        tokenizer.chat_template = plain
    assert (answer.status_code, answer.json()["detail"]) == (400, "roles must alternate")


def test_tools_are_refused_where_the_template_would_leave_them_out(client):
    answer = client.post("/v1/chat/completions", json=CHAT | {"tools": [TOOL]})
    assert (answer.status_code, answer.json()) == (400, {"detail": "its chat template takes no tools"})


def test_a_template_that_has_tools_gets_them(loaded):
    model, tokenizer = loaded
    plain = tokenizer.chat_template
    tokenizer.chat_template = "{% for tool in tools or [] %}{{ tool.function.name }}{% endfor %}" + plain
    try:
        with TestClient(model_worker.application({"ratchet@3": lambda: model}, tokenizer)) as client:
            usage = [
                client.post("/v1/chat/completions", json=CHAT | {"tools": tools}).json()["usage"]["prompt_tokens"]
                for tools in ([], [TOOL])
            ]
    finally:
        tokenizer.chat_template = plain
    assert usage[1] == usage[0] + len("now")


def test_text_beside_a_call_the_name_of_a_tool_and_a_call_without_arguments_reach_the_template(loaded):
    model, tokenizer = loaded
    plain = tokenizer.chat_template
    tokenizer.chat_template = (
        "{% for message in messages %}{{ message.content }}{{ message.name }}"
        "{% for call in message.tool_calls or [] %}{{ call.function.arguments | tojson }}{% endfor %}{% endfor %}"
    )
    call = {"id": "c1", "type": "function", "function": {"name": "now", "arguments": ""}}
    spoken = {"role": "assistant", "content": [{"type": "text", "text": "I look."}], "tool_calls": [call]}
    result = {"role": "tool", "name": "now", "content": "noon", "tool_call_id": "c1"}
    try:
        with TestClient(model_worker.application({"ratchet@3": lambda: model}, tokenizer)) as client:
            answer = client.post("/v1/chat/completions", json=CHAT | {"messages": [spoken, result]})
    finally:
        tokenizer.chat_template = plain
    assert answer.json()["usage"]["prompt_tokens"] == len("I look.{}noonnow")


def test_a_call_that_the_model_writes_is_one_in_the_answer(tiny):
    """A Qwen2 that knows the call by heart, as `transformers serve` reads calls of its kind."""
    _, tokenizer = small.decided(tiny)
    model, said = small.qwen2(), '<tool_call>\n{"name": "now", "arguments": {"zone": "UTC"}}\n</tool_call>'
    plain = tokenizer.chat_template
    tokenizer.chat_template = "{% for tool in tools or [] %}{{ tool.function.name }}{% endfor %}" + plain
    try:
        asked = [{"role": "user", "content": "Well?"}]
        prompt = tokenizer.apply_chat_template(asked, tools=[TOOL], add_generation_prompt=True, return_dict=False)
        answer = tokenizer(said, add_special_tokens=False)["input_ids"]
        small.learn(model, prompt, answer)
        body = CHAT | {"tools": [TOOL], "max_tokens": len(answer)}
        with TestClient(model_worker.application({"ratchet@3": lambda: model}, tokenizer)) as client:
            message = client.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]
            without = client.post("/v1/chat/completions", json=CHAT).json()["choices"][0]["message"]
    finally:
        tokenizer.chat_template = plain
    (call,) = message["tool_calls"]
    assert (call["type"], call["function"]["name"]) == ("function", "now")
    assert json.loads(call["function"]["arguments"]) == {"zone": "UTC"}
    assert not message["content"]
    assert not without.get("tool_calls")


@pytest.fixture(scope="module")
def learnt(tiny):
    """A client of a model that knows one answer by heart, and the requests for it by path."""
    (_, tokenizer), model = small.decided(tiny), small.qwen2()
    prompt = tokenizer.apply_chat_template(CHAT["messages"], add_generation_prompt=True, return_dict=False)
    answer = tokenizer(LEARNT, add_special_tokens=False)["input_ids"]
    small.learn(model, prompt, answer)
    text = tokenizer.decode(prompt)
    assert tokenizer(text)["input_ids"] == prompt
    body = CHAT | {"max_tokens": len(answer)}
    bodies = {"chat/completions": body, "completions": {**body, "prompt": text}}
    del bodies["completions"]["messages"]
    with TestClient(model_worker.application({"ratchet@3": lambda: model}, tokenizer)) as client:
        yield client, bodies


def told(client, path, body):
    """The text of an answer, streamed or not, and the reason for its end."""
    text = client.post(f"/v1/{path}", json=body).text
    events = text.strip().split("\n\n") if body["stream"] else [text]
    choices = [json.loads(event.removeprefix("data: "))["choices"][0] for event in events]
    parts = [choice.get("delta", choice.get("message", choice)) for choice in choices]
    return "".join(part.get("content", part.get("text")) or "" for part in parts), choices[-1]["finish_reason"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["chat/completions", "completions"])
def test_an_answer_ends_before_a_stop_text(learnt, path, stream):
    client, bodies = learnt

    def answer(stop):
        return told(client, path, bodies[path] | {"stop": stop, "stream": stream})

    assert answer(None) == answer([]) == (LEARNT, "length")
    assert answer("two") == ("one ", "stop")
    assert answer(["three", "twofold", "o t"]) == ("one tw", "stop")
    assert answer("three") == ("one two ", "stop"), "its last token is the last there may be"
    assert answer(["threefold"]) == (LEARNT, "length"), "what may be its beginning is held back, not lost"
    assert answer(["assistant\none"]) == (LEARNT, "length"), "its beginning is the prompt's"


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_whose_last_token_ends_it_is_whole(tiny, stream):
    (_, tokenizer), model = small.decided(tiny), small.qwen2()
    prompt = tokenizer.apply_chat_template(CHAT["messages"], add_generation_prompt=True, return_dict=False)
    answer = [*tokenizer("one", add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    small.learn(model, prompt, answer)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    with TestClient(model_worker.application({"ratchet@3": lambda: model}, tokenizer)) as client:
        for most, reason in ((len(answer) - 1, "length"), (len(answer), "stop"), (len(answer) + 1, "stop")):
            assert told(client, "chat/completions", CHAT | {"max_tokens": most, "stream": stream}) == ("one", reason)


def test_what_is_no_stop_text_and_a_prompt_without_a_token_are_refused(client):
    for stop in (3, [1], [""], {"x": 1}):
        answer = client.post("/v1/chat/completions", json=CHAT | {"stop": stop})
        assert (answer.status_code, answer.json()["detail"]) == (400, "stop is neither a text nor a list of texts")
    answer = client.post("/v1/completions", json={"model": "ratchet@3", "prompt": ""})
    assert (answer.status_code, answer.json()["detail"]) == (400, "the prompt has no tokens")


@pytest.mark.parametrize(
    ("endpoint", "handler"),
    [("chat/completions", chat_completion.ChatCompletionHandler), ("completions", completion.CompletionHandler)],
)
def test_the_gateway_passes_on_what_this_server_reads_and_what_asks_nothing_of_an_answer(endpoint, handler):
    harmless = {"metadata", "safety_identifier", "service_tier", "stream_options", "user"}
    harmless |= {"prompt_cache_key", "prompt_cache_options", "prompt_cache_retention"}
    source = inspect.getsource(handler) + inspect.getsource(utils.BaseHandler)
    known = handler._valid_params_class.__mutable_keys__
    read = {field for field in known if f'body.get("{field}"' in source or f'body["{field}"]' in source}
    read -= {"suffix"}  # it writes that behind the answer, which does not lead to it
    passed_on = {field for field, values in backends.FIELDS_OF_TRANSFORMERS[endpoint].items() if values is None}
    assert passed_on == read | (harmless & known)
    assert set(backends.FIELDS_OF_TRANSFORMERS[endpoint]) <= known


def test_a_bank_answers_by_the_name_of_each_adapter(tiny, tmp_path):
    folder = bank_of(tmp_path, tiny, ("count", "lora"), ("colour", "lora"))
    served, tokenizer = model_worker._served("", folder, tiny, {"dtype": "float32", "device": "cpu"})
    assert [name.split("@")[0] for name in served] == ["colour", "count"]
    bodies = [CHAT | {"model": name, "logprobs": None} for name in [*served, *served]]
    with TestClient(model_worker.application(served, tokenizer), raise_server_exceptions=False) as client:
        answers = [client.post("/v1/chat/completions", json=body).json() for body in bodies]
        refused = client.post("/v1/chat/completions", json=CHAT)
        listed = [card["id"] for card in client.get("/v1/models").json()["data"]]
    assert (refused.status_code, listed) == (400, [*served])
    texts = [answer["choices"][0]["message"]["content"] for answer in answers]
    expected = [
        generation.write(make(), [ASKED], tokenizer, max_new_tokens=6, batch_size=1)[0] for make in served.values()
    ]
    assert texts == [*expected, *expected]
