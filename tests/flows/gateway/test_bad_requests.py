"""What is wrong with a request is told in one sentence, in the shape of OpenAI's errors; others are answered meanwhile."""

import json
import socket
import threading
import time
from pathlib import Path

import httpx
import pytest

from flows.gateway import event_stream, server
from flows.gateway.prompt_log import PromptLog
from tasks.core.operation import ServeConfig
from tests.flows.conftest import wait_for

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
HELLO = {"model": "champion", "prompt": "hello"}
JSON = {"content-type": "application/json"}
HEAD = f"POST {TEXT} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"


def error(answer, status, param=None):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    told = answer.json()["error"]
    assert set(told) == {"message", "type", "param", "code"}
    assert told["param"] == param
    assert "\n" not in told["message"]
    return told["message"]


@pytest.mark.parametrize(
    ("path", "body", "param", "sentence"),
    [
        (TEXT, b'{"model": ', None, "The body is no JSON: "),
        (TEXT, b"", None, "The body is no JSON: "),
        (TEXT, b"\xff\xfe", None, "The body is no JSON: "),
        (TEXT, b"[" * 50_000, None, "The body is no JSON: "),
        (TEXT, b'{"temperature": NaN}', None, "The body is no JSON: NaN is no JSON number"),
        (TEXT, b"[1]", None, "The body: Input should be a valid dictionary"),
        (TEXT, b'{"prompt": "x"}', "model", "model: Field required"),
        (TEXT, b'{"model": 3, "prompt": "x"}', "model", "model: Input should be a valid string"),
        (TEXT, b'{"model": "champion", "prompt": "x", "temperature": 9}', "temperature", "temperature: Input should be"),
        (TEXT, b'{"model": "champion", "prompt": "cut \\ud83d"}', None, "A text of the body has half of a character"),
        (TEXT, b'{"model": "champion", "prompt": "x", "\\ud83d": 1}', None, "A text of the body has half of a character"),
        (TEXT, b'{"model": "champion", "prompt": "x", "seed": 9223372036854775808}', "seed", "seed: Input should be less"),
        (TEXT, b'{"model": "champion", "prompt": "x", "frequency_penalty": 3}', "frequency_penalty", "frequency_penalty: In"),
        (TEXT, b'{"model": "champion", "prompt": "x", "generation_config": {}}', "generation_config", "generation_config: In"),
        (CHAT, b'{"model": "champion", "messages": [{"role": "user"}], "chat_template_kwargs": [1]}',
         "chat_template_kwargs", "chat_template_kwargs: Input should be a valid dict"),
        (TEXT, b'{"model": "champion", "prompt": "x", "max_tokens": 0}', "max_tokens", "max_tokens: Input should be"),
        (TEXT, b'{"model": "champion", "prompt": "x", "logprobs": 3}', "logprobs", "logprobs: the backend of ratchet@1 does"),
        (TEXT, b'{"model": "champion", "prompt": "x", "logprobs": 0}', "logprobs", "logprobs: the backend of ratchet@1 does"),
        (TEXT, b'{"model": "champion", "prompt": "x", "top_k": 1}', "top_k", "top_k: the backend of ratchet@1 does not"),
        (CHAT, b'{"model": "champion", "messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}]}',
         "messages.0.tool_calls.0.function.arguments", "messages.0.tool_calls.0.function.arguments: Field required"),
        (CHAT, b'{"model": "champion", "messages": []}', "messages", "messages: List should have at least 1 item"),
        (CHAT, b'{"model": "champion", "messages": ["hi"]}', "messages.0", "messages.0: Input should be"),
        (CHAT, b'{"model": "champion", "messages": [{"content": "x"}]}', "messages.0.role", "messages.0.role: Field req"),
    ],
)  # fmt: skip
def test_a_body_that_is_no_request(gateway, path, body, param, sentence):
    assert error(gateway.client.post(path, content=body, headers=JSON), 400, param).startswith(sentence)


def test_null_is_as_if_a_field_were_left_out(gateway):
    assert gateway.ask("hello", top_k=None, seed=None, suffix=None).status_code == 200


def test_settings_of_tools_have_no_effect_in_a_request_without_tools(gateway):
    def ask(**fields):
        body = {"model": "champion", "messages": [{"role": "user", "content": "hello"}]}
        return gateway.client.post(CHAT, json=body | fields)

    for field, value in (("tool_choice", "none"), ("tool_choice", "auto"), ("parallel_tool_calls", False)):
        assert ask(**{field: value}).status_code == ask(**{field: value}, tools=[]).status_code == 200
        error(ask(**{field: value}, tools=[{"function": {"name": "now"}}]), 400, field)
    error(ask(tool_choice="required"), 400, "tool_choice")


def test_a_model_that_is_not_served(gateway):
    told = error(gateway.ask("hello", "gpt-5"), 404, "model")
    assert told == "The model 'gpt-5' is not served here. There is: champion (ratchet@1)."
    error(gateway.client.get("/v1/models/gpt-5"), 404, "model")
    gateway.counts('ratchet_serve_requests_total{endpoint="completions",model="unknown",status="404"}', 1)


def test_a_path_and_a_method_that_do_not_exist(gateway):
    assert error(gateway.client.get("/v2/models"), 404) == "There is no such path here. See /v1/models."
    error(gateway.client.get(TEXT), 405)
    error(gateway.client.post("/reset"), 404)  # of `transformers serve`: it would unload the model
    error(gateway.client.post("/v1/load_lora_adapter", json={}), 404)


def test_another_host_is_refused(gateway):
    answer = gateway.client.post(TEXT, json=HELLO, headers={"host": "rebound.example"})
    assert error(answer, 403) == "This server accepts only the hosts 127.0.0.1 and localhost."
    assert gateway.client.get("/health", headers={"host": "localhost:99"}).status_code == 200


def test_a_page_of_another_site_is_refused(gateway):
    def ask(kind="application/json", **headers):
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return gateway.client.post(TEXT, content=json.dumps(HELLO), headers={"content-type": kind, **names})

    for headers in ({"origin": "https://evil.example"}, {"origin": "null"}, {"sec_fetch_site": "cross-site"}):
        assert error(ask(**headers), 403) == "This server refuses requests from pages of other sites."
    assert ask(origin="http://localhost:3000", sec_fetch_site="same-site").status_code == 200
    told = error(ask("text/plain;charset=UTF-8"), 415)
    assert told == "The content type is 'text/plain;charset=UTF-8'. Send the header `content-type: application/json`."
    error(gateway.client.post(TEXT, content=json.dumps(HELLO)), 415)
    assert ask("application/json; charset=utf-8").status_code == 200


@pytest.mark.parametrize("streamed", [False, True])
def test_a_body_of_ten_megabytes(serving, streamed):
    content = json.dumps(HELLO | {"prompt": "x" * 10_000_000}).encode()
    with serving({"champion": "ratchet@1"}, ServeConfig()) as gateway:
        answer = gateway.client.post(TEXT, content=iter([content]) if streamed else content)
        assert error(answer, 413) == "The body is larger than 1,048,576 bytes."
        assert gateway.ask("hello").status_code == 200


def test_more_requests_than_the_queue_holds(patient):
    answers = []
    asking = [threading.Thread(target=lambda: answers.append(patient.ask("hold go"))) for _ in range(3)]
    for thread in asking:
        thread.start()
    wait_for(lambda: patient.measured('ratchet_serve_queue{alias="champion"}') == 3, lambda: "")
    refused = patient.ask("hello")
    assert error(refused, 429) == "3 requests run or wait for 'champion'. Ask again later."
    assert refused.headers["retry-after"] == "1"
    Path("go").touch()
    for thread in asking:
        thread.join()
    assert [answer.status_code for answer in answers] == [200] * 3


def test_an_answer_that_takes_too_long(gateway):
    begun = time.monotonic()
    assert error(gateway.ask("sleep 9"), 504) == "The answer was not complete within 3 s."
    assert time.monotonic() - begun < 8
    assert gateway.ask("hello").status_code == 200


def send(gateway, content):
    """A connection on which this was sent, and nothing after it."""
    host, _, port = gateway.url.removeprefix("http://").partition(":")
    connection = socket.create_connection((host, int(port)), timeout=10)
    connection.sendall(content)
    return connection


def test_a_client_that_hangs_in_its_request(gateway):
    head = (HEAD % 100).encode()
    with send(gateway, b""), send(gateway, b"POST "), send(gateway, head + b'{"model"') as hanging:
        assert gateway.ask("hello").status_code == 200
        answer = b"".join(iter(lambda: hanging.recv(2000), b""))  # the head and the body may come in two pieces
        assert answer.startswith(b"HTTP/1.1 408")
        assert b"The request did not arrive within 1 s." in answer


def test_a_client_that_goes_away_gives_its_place_back(patient):
    body = json.dumps(HELLO | {"prompt": "sleep 60"}).encode()
    head = (HEAD % len(body)).encode()
    asking = [send(patient, head + body) for _ in range(3)]
    wait_for(lambda: patient.measured('ratchet_serve_queue{alias="champion"}') == 3, lambda: "", 20)
    for connection in asking:
        connection.close()
    wait_for(lambda: patient.measured('ratchet_serve_queue{alias="champion"}') == 0, lambda: "", 20)
    gone = 'ratchet_serve_requests_total{endpoint="completions",model="%s",status="499"}'
    # Two had a worker; the third waited, and may have been given a place before its own end was seen.
    wait_for(lambda: sum(patient.measured(gone % model) for model in ("ratchet@1", "unknown")) == 3, lambda: "", 20)
    assert patient.ask("hello").status_code == 200


def test_a_client_that_goes_away_from_a_stream_gives_its_place_back(patient):
    with patient.client.stream("POST", TEXT, json=HELLO | {"prompt": "long", "stream": True}) as answer:
        next(answer.iter_raw())
    wait_for(lambda: patient.measured('ratchet_serve_queue{alias="champion"}') == 0, lambda: "", 20)


def test_a_client_that_does_not_read_its_stream_is_left_at_the_time_limit(gateway):
    body = json.dumps(HELLO | {"prompt": "long", "stream": True}).encode()
    head = (HEAD % len(body)).encode()
    with send(gateway, head + body):
        wait_for(lambda: gateway.measured('ratchet_serve_queue{alias="champion"}') == 1, lambda: "")
        assert gateway.ask("hello").status_code == 200
        wait_for(lambda: gateway.measured('ratchet_serve_queue{alias="champion"}') == 0, lambda: "", 5)


def test_errors_of_a_backend_have_the_shape_of_openai(gateway):
    assert error(gateway.ask("detail"), 422) == (
        "ratchet@1 refused the request: Unexpected fields in the request: {'top_k'}"
    )
    assert (
        error(gateway.ask("named", temperature=1), 400, "temperature")
        == "ratchet@1 refused the request: temperature: it is too hot"
    )
    assert error(gateway.ask("text"), 500) == "ratchet@1 failed on the request: Internal Server Error"


def test_a_worker_that_ends_in_the_middle_of_a_stream_is_told_in_the_stream(gateway):
    answer = gateway.ask("cut", stream=True)
    *_, last = answer.text.strip().split("\n\n")
    assert (
        json.loads(last.removeprefix("data: "))["error"]["message"] == "ratchet@1 ended before its answer was complete."
    )
    assert "[DONE]" not in answer.text


def test_an_error_in_a_stream_is_told_as_one_and_its_prompt_is_not_kept(serving):
    with serving({"champion": "ratchet@1"}, ServeConfig(), PromptLog(Path("incoming"))) as gateway:
        answer = gateway.ask("fault", stream=True)
        first, last = answer.text.strip().split("\n\n")
        assert json.loads(first.removeprefix("data: "))["choices"][0]["delta"] == {"content": "ratchet@1"}
        told = json.loads(last.removeprefix("data: "))["error"]
        assert told["message"] == "ratchet@1 failed on the request: weights are torn"
        failed = 'ratchet_serve_requests_total{endpoint="completions",model="ratchet@1",status="500"}'
        wait_for(lambda: gateway.measured(failed) == 1, lambda: "")
    assert [*Path("incoming").iterdir()] == []


def test_a_stream_ends_as_those_of_openai_and_its_tokens_are_counted(gateway):
    answer = gateway.client.post(
        CHAT, json={"model": "champion", "stream": True, "messages": [{"role": "user", "content": "hello"}]}
    )
    assert answer.headers["content-type"] == "text/event-stream"
    *events, done = answer.text.strip().split("\n\n")
    assert done == "data: [DONE]"
    assert {json.loads(event.removeprefix("data: "))["model"] for event in events} == {"ratchet@1"}
    gateway.ask("hello")
    for kind, tokens in {"prompt": 6, "completion": 4}.items():
        gateway.counts(f'ratchet_serve_tokens_total{{kind="{kind}",model="ratchet@1"}}', tokens)
    gateway.counts('ratchet_serve_request_seconds_count{endpoint="completions",model="ratchet@1"}', 1)


@pytest.mark.parametrize("pieces", [1, 7, 10_000], ids=lambda size: f"{size} bytes at a time")
def test_the_tokens_of_a_stream_are_sent_if_they_are_asked_for_and_counted_always(pieces):
    counted = b'data: {"choices": [], "usage": {"prompt_tokens": 3}}\n\n'
    rest = b'data: {"choices": [{"delta": {}}], "usage": null}\n\n', b"data: [DONE]\n\n"
    sent = rest[0] + counted + rest[1]
    for with_usage, expected in ((True, sent), (False, b"".join(rest))):
        stream = event_stream.EventStream(with_usage=with_usage)
        passed = b"".join(stream.feed(sent[start : start + pieces]) for start in range(0, len(sent), pieces))
        assert (passed, stream.usage, stream.is_done) == (expected, {"prompt_tokens": 3}, True)


def test_a_client_gets_the_tokens_of_its_stream_if_it_asks_for_them(gateway):
    def usages(**fields):
        *events, done = gateway.ask("hello", stream=True, **fields).text.strip().split("\n\n")
        assert done == "data: [DONE]"
        return [usage for event in events if (usage := json.loads(event.removeprefix("data: ")).get("usage"))]

    assert usages() == usages(stream_options=None) == usages(stream_options={"include_usage": False}) == []
    assert [usage["total_tokens"] for usage in usages(stream_options={"include_usage": True})] == [5]
    gateway.counts('ratchet_serve_tokens_total{kind="prompt",model="ratchet@1"}', 12)
    error(gateway.ask("hello", stream=True, stream_options={"include_usage": 3}), 400, "stream_options.include_usage")


def test_a_second_server_on_a_port_is_told_who_has_it(gateway):
    port = int(gateway.url.rpartition(":")[2])
    with pytest.raises(RuntimeError, match=rf"port {port} is taken by process \d+ .* ratchet serve --port {port + 1}"):
        server.listen(port)


def test_it_listens_to_this_machine_alone(gateway):
    with server.listen(0) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"
    with pytest.raises(httpx.ConnectError):
        httpx.get(gateway.url.replace("127.0.0.1", "127.0.0.2"))
