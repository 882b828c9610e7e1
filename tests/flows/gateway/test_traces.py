"""Where traces are on, each request that is relayed is one, with its answer however it came."""

import json

import pytest

from flows.gateway import event_stream
from tasks.core.operation import ServeConfig
from tasks.io.runs import spool_uploader, tracking
from tests.flows.conftest import wait_for
from tests.io.runs.conftest import in_store

TALK = {"model": "champion", "messages": [{"role": "user", "content": "Hello?"}]}
CALL = {"name": "now", "arguments": '{"zone": "UTC"}'}


class Kept(tracking.Traces):
    """Traces that stay here."""

    def __init__(self):
        super().__init__("serve")
        self.calls = []

    def record(self, call):
        self.calls.append(call)


def recorded(calls, number):
    """The calls, once there are so many: one is recorded after the last byte of its answer was sent."""
    wait_for(lambda: len(calls) == number, lambda: str(calls), 30)
    return calls


@pytest.fixture
def traced(serving):
    """What is recorded of requests of a gateway with one champion; the gateway."""
    traces = Kept()
    with serving({"champion": "ratchet@1"}, ServeConfig(timeout_s=3), traces=traces) as gateway:
        yield traces.calls, gateway


def test_requests_reach_mlflow_with_their_answers(serving, store, monkeypatch):
    monkeypatch.setattr(spool_uploader, "start", lambda: None)
    monkeypatch.setattr(spool_uploader, "LINGER_S", 0.0)
    traces = tracking.Traces("serve")
    with serving({"champion": "ratchet@1"}, ServeConfig(), traces=traces) as gateway:
        assert gateway.client.post("/v1/chat/completions", json=TALK).status_code == 200
    traces.end()
    spool_uploader.upload()
    (trace,) = in_store(store)
    (span,) = trace.data.spans
    assert (span.name, span.inputs) == ("serve", TALK)
    assert span.outputs["choices"][0]["message"]["content"] == "ratchet@1: Hello?"
    assert span.attributes["mlflow.llm.model"] == "ratchet@1"
    assert trace.info.token_usage == {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}
    assert trace.info.response_preview == "ratchet@1: Hello?"


def test_a_streamed_answer_is_put_together(traced):
    calls, gateway = traced
    assert gateway.client.post("/v1/chat/completions", json=TALK | {"stream": True}).status_code == 200
    (call,) = recorded(calls, 1)
    assert call.answered["choices"][0]["message"]["content"] == "ratchet@1" * 3
    assert (call.tokens_read, call.tokens_written, call.error) == (3, 2, "")
    assert 0 < call.seconds < 3


def test_what_fails_is_recorded_with_its_reason(traced):
    calls, gateway = traced
    gateway.ask("text")
    gateway.ask("sleep 9")
    assert [call.error for call in recorded(calls, 2)] == [
        "ratchet@1 failed on the request: Internal Server Error",
        "The answer was not complete within 3 s.",
    ]
    assert [call.answered for call in calls] == [{}, {}]


def test_what_is_not_relayed_or_not_to_be_stored_is_no_trace(traced):
    calls, gateway = traced
    assert gateway.ask("hello", model="nobody").status_code == 404
    assert gateway.ask("hello", temperature=9).status_code == 400
    assert gateway.ask("keep this to yourself", store=False).status_code == 200
    assert gateway.ask("hello").status_code == 200
    assert [call.asked["prompt"] for call in recorded(calls, 1)] == ["hello"]


def test_a_call_of_a_tool_comes_in_pieces():
    answer = event_stream.Answer()
    stream = event_stream.EventStream(answer)
    deltas = [
        {"tool_calls": [{"index": 0, "function": {"name": "now", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"zone"'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": ': "UTC"}'}}], "content": None},
    ]
    for delta in deltas:
        stream.feed(event_stream.DATA + json.dumps({"choices": [{"delta": delta}]}).encode() + b"\n\n")
    stream.feed(b'data: {"choices": 3}\n\ndata: nonsense\n\ndata: [DONE]\n\n')
    message = {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": CALL}]}
    assert answer.whole == {"choices": [{"index": 0, "message": message}]}
    assert stream.is_done
