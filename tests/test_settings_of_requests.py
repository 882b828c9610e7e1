"""Settings and roles of a request to `transformers serve` with our model: taken, or refused by their names."""

import pytest
from starlette.testclient import TestClient

from tasks import model_worker
from tests import tiny as small
from tests.test_model_worker import CHAT, told


@pytest.fixture(scope="module")
def loaded(tiny):
    return small.decided(tiny)


@pytest.fixture(scope="module")
def client(loaded):
    app = model_worker.application({"ratchet@3": lambda: loaded[0]}, loaded[1])
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


WRONG = (
    "[1]",
    "{",
    '{"max_time": "long"}',
    '{"nonsense": 3}',
    '{"max_new_tokens": "x"}',
    '{"num_beams": 0}',
    '{"penalty_alpha": 0.6, "top_k": 4}',  # transformers would load code for it
    '{"top_k": -3, "do_sample": true}',
    '{"temperature": -1, "do_sample": true}',
    '{"bad_words_ids": [[99999]]}',
    '{"min_new_tokens": "x"}',
    '{"eos_token_id": "x"}',
)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("field", "value"),
    [("generation_config", text) for text in WRONG]
    + [("chat_template_kwargs", {key: False}) for key in ("tokenize", "tools", "messages", "chat_template")]
    + [("logit_bias", {"99999": 1})],
)
def test_settings_that_generation_or_the_template_cannot_have_are_refused_by_name(client, field, value, stream):
    body = {name: value for name, value in CHAT.items() if name != "temperature"} | {"stream": stream}
    answer = client.post("/v1/chat/completions", json=body | {field: value})
    assert answer.status_code == 400, answer.text
    assert answer.json()["detail"].startswith(f"{field}: " if value not in WRONG[:2] else field)


@pytest.mark.parametrize("stream", [False, True])
def test_a_model_whose_own_settings_are_wrong_fails_before_a_stream_begins(client, loaded, stream, monkeypatch):
    monkeypatch.setattr(loaded[0].generation_config, "repetition_penalty", -1.0)
    answer = client.post("/v1/chat/completions", json=CHAT | {"stream": stream})
    assert answer.status_code == 500
    assert answer.json()["detail"].startswith("the generation_config.json of the model: ")


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_has_one_answer_and_beams_are_refused_before_a_stream_begins(client, loaded, stream, monkeypatch):
    def answer(config):
        body = {name: value for name, value in CHAT.items() if name != "temperature"} | {"stream": stream}
        return client.post("/v1/chat/completions", json=body | {"generation_config": config})

    several = answer('{"num_return_sequences": 3, "do_sample": true}')
    assert several.status_code == 400
    assert several.json()["detail"].startswith("generation_config: num_return_sequences is 3")
    beams = answer('{"num_beams": 2}')
    assert beams.status_code == (400 if stream else 200)
    assert not stream or beams.json()["detail"].startswith(
        "generation_config: num_beams is 2, which cannot be streamed"
    )
    monkeypatch.setattr(loaded[0].generation_config, "num_return_sequences", 3)
    body = CHAT | {"stream": stream, "temperature": 1, "seed": 1}
    of_model = told(client, "chat/completions", body)
    monkeypatch.undo()
    assert of_model == told(client, "chat/completions", body)


@pytest.mark.parametrize("stream", [False, True])
def test_settings_without_an_effect_on_the_answer_are_taken(client, stream):
    usual = told(client, "chat/completions", CHAT | {"stream": stream})
    config = {"generation_config": '{"return_dict_in_generate": true}'}
    for changed in (config, {"temperature": 1e-45}, {"chat_template_kwargs": {"documents": []}}, {"logit_bias": {}}):
        assert told(client, "chat/completions", CHAT | {"stream": stream} | changed) == usual


def test_a_developer_is_the_system_as_in_training_unless_the_template_knows_developers(client, loaded, monkeypatch):
    def length(role):
        body = CHAT | {"messages": [{"role": role, "content": "Be brief."}]}
        return client.post("/v1/chat/completions", json=body).json()["usage"]["prompt_tokens"]

    assert length("developer") == length("system")
    monkeypatch.setattr(loaded[1], "chat_template", "{# developer #}" + loaded[1].chat_template)
    assert length("developer") == length("system") + len("developer") - len("system")
