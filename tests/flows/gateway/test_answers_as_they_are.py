"""What a backend answers reaches the client as it is, whole or streamed: calls of tools, and log probabilities where it has them."""

import json

import pytest

from tasks.core.operation import ServeConfig

TOOL = {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}
BODY = {"model": "champion", "messages": [{"role": "user", "content": "When?"}], "tools": [TOOL], "logprobs": True}
FUNCTION = {"name": "now", "arguments": '{"zone": "UTC"}'}


@pytest.fixture
def full(serving):
    """A gateway over a backend that leaves out nothing."""
    with serving({"champion": "full@1"}, ServeConfig()) as gateway:
        yield gateway


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "streamed"])
def test_a_call_and_log_probabilities_are_passed_on(full, streams):
    answer = full.client.post("/v1/chat/completions", json=BODY | {"stream": streams})
    assert answer.status_code == 200
    if streams:
        *_, last, done = answer.text.strip().split("\n\n")
        assert done == "data: [DONE]"
        (choice,) = json.loads(last.removeprefix("data: "))["choices"]
    else:
        (choice,) = answer.json()["choices"]
    (call,) = choice["delta" if streams else "message"]["tool_calls"]
    assert (call["id"], call["type"], call["function"]) == ("c1", "function", FUNCTION)
    assert choice["finish_reason"] == "tool_calls"
    assert choice["logprobs"]["content"] == [{"token": "full@1", "logprob": -0.25, "bytes": None, "top_logprobs": []}]


def test_a_backend_that_would_leave_them_out_refuses_them(gateway):
    refused = gateway.client.post("/v1/chat/completions", json=BODY)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "logprobs")
