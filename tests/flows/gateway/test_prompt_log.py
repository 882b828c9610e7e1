"""With consent, prompts come in where the monitor looks, in its shape."""

import json
import resource
import stat
from pathlib import Path

import pytest
import yaml

from flows.gateway import prompt_log, requests
from flows.gateway.prompt_log import PromptLog
from tasks import configuration
from tasks.core.operation import ServeConfig
from tasks.core.records import Example
from tasks.stages.ingest.reading import incoming
from tests.flows.conftest import ROOT

PARTS = [
    {"type": "text", "text": "Two"},
    {"type": "image_url", "image_url": {"url": "x"}},
    {"type": "text", "text": "parts"},
]
CALL = {"id": "c1", "type": "function", "function": {"name": "now", "arguments": "{}"}}
TOOL = {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}
TALKS = [
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello?"}],
    [{"role": "user", "content": "One"}, {"role": "assistant", "content": "1"}, {"role": "user", "content": PARTS}],
    [
        {"role": "user", "content": "When?"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "content": "noon", "tool_call_id": "c1"},
    ],
]


def asked(prompt):
    return requests.parse("completions", json.dumps({"model": "champion", "prompt": prompt}).encode())


def examples():
    rows = list(incoming.read(incoming.files([Path("incoming")])))
    assert all(isinstance(row, Example) for row in rows), rows
    return rows


def test_every_prompt_that_was_answered_is_one_the_monitor_reads(serving):
    with serving({"champion": "ratchet@1"}, ServeConfig(), PromptLog(Path("incoming"))) as gateway:
        for talk in TALKS:
            body = {"model": "champion", "messages": talk} | ({"tools": [TOOL]} if talk is TALKS[-1] else {})
            assert gateway.client.post("/v1/chat/completions", json=body).status_code == 200
        gateway.ask("Of a text\nwith two lines", stream=True)
        assert gateway.ask("keep this to yourself", store=False).status_code == 200
        gateway.ask("detail")  # it was refused
    assert [[message.content for message in example.messages[:-1]] for example in examples()] == [
        ["Be brief.", "Hello?"],
        ["One", "1", "Two parts"],
        ["When?", "", "noon"],
        ["Of a text\nwith two lines"],
    ]
    assert [example.tools and json.loads(example.tools) for example in examples()] == [None, None, [TOOL], None]
    assert {example.messages[-1].content for example in examples()} == {incoming.NONE}
    (file,) = Path("incoming").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_log_that_cannot_be_written_costs_no_answer(serving):
    log = PromptLog(Path("incoming"))
    Path("incoming").rmdir()
    with serving({"champion": "ratchet@1"}, ServeConfig(), log) as gateway:
        assert gateway.ask("hello").status_code == 200
        gateway.counts("ratchet_serve_lost_prompts_total", 1)


def test_a_prompt_for_which_the_disk_has_half_the_room_costs_no_other():
    log = PromptLog(Path("incoming"))
    log.append(asked("first"))
    (file,) = Path("incoming").iterdir()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + 20, hard))
    try:
        with pytest.raises(OSError, match=r"served-.*\.jsonl"):
            log.append(asked("second"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    log.append(asked("third"))
    assert [example.messages[0].content for example in examples()] == ["first", "third"]


def config(**sections):
    shipped = yaml.safe_load((ROOT / "params/micro.yaml").read_text())
    Path("params.yaml").write_text(yaml.safe_dump(shipped | sections))
    return configuration.load()


def test_nothing_is_logged_unless_the_config_says_so():
    assert prompt_log.opened(config(monitor={"incoming": "data/incoming"})) is None
    assert not Path("data").exists()


@pytest.mark.parametrize("monitor", [{}, {"incoming": "data/incoming.jsonl"}])
def test_a_log_needs_a_folder(monitor):
    with pytest.raises(ValueError, match=r"serve\.log_prompts: .*monitor\.incoming"):
        prompt_log.opened(config(serve={"log_prompts": True}, monitor=monitor))
    opened = prompt_log.opened(config(serve={"log_prompts": True}, monitor={"incoming": "data/incoming"}))
    assert opened is not None


def test_a_prompt_that_is_no_text_is_left_out(serving):
    with serving({"champion": "ratchet@1"}, ServeConfig(), PromptLog(Path("incoming"))) as gateway:
        gateway.client.post("/v1/completions", json={"model": "champion", "prompt": [1, 2, 3]})
        gateway.ask("lone \ud800 half".encode("utf-8", "surrogatepass").decode("utf-8", "replace"))
    assert len(list(incoming.files([Path("incoming")]))) == 1


def test_a_list_of_one_text_is_that_text_to_backends_and_in_the_log(serving):
    with serving({"champion": "ratchet@1"}, ServeConfig(), PromptLog(Path("incoming"))) as gateway:
        answer = gateway.client.post("/v1/completions", json={"model": "champion", "prompt": ["hello"]})
        assert answer.json()["choices"][0]["text"] == "ratchet@1: hello"
    (file,) = incoming.files([Path("incoming")])
    assert json.loads(file.read_text())["prompt"] == "hello"
