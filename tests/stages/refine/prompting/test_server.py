"""Refining through a real server over a small model: its bad days lose nothing, and nothing is paid for twice."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tasks.core.records import Example, Lineage, Message
from tasks.core.text.writing import Decoding, Server
from tasks.engine.inference import writer
from tasks.io import tables
from tasks.io.generators import client
from tasks.io.weights import checkpoints
from tests import tiny as small
from tests.chat_server import FAULTS, serving
from tests.stages.refine.turns import prepare, work
from tests.support import ScratchRun

ROOT = Path(__file__).resolve().parents[4]
ROWS = [small.example(n, prompt=f"Say something of the number {n}.", response=f"It is {n}.") for n in range(10)]
CHOSEN = dict.fromkeys(range(10), ("hard",))


@pytest.fixture(scope="module")
def reply(tiny):
    """Return a function that answers with a small random model; it puts a new prompt after the mark."""
    from tasks.engine.inference import generation
    from tasks.stages.refine.prompting.prompts import MARK

    model, tokenizer = checkpoints.load(tiny)

    @cache
    def written(content):  # once: a busy machine must not look like a silent server
        request = json.loads(content)
        prompt = [Message(message["role"], message["content"]) for message in request["messages"]]
        sampling = generation.Sampling(request["temperature"], request["top_p"], [str(request["seed"])])
        (text,) = generation.write(model, [prompt], tokenizer, max_new_tokens=8, batch_size=1, sampling=sampling)
        text = "".join(c for c in text if c.isalnum()) + request["messages"][-1]["content"][-3:]
        return f"{MARK}\n{text}" if prompt[0].role == "system" else text

    return lambda request: written(json.dumps(request))


def settings(server, **more):
    about = {"url": server.url, "model": "m", "timeout_s": 60, **more}
    return {"generator": {"from": "endpoint", "server": about}, "accept": {"likeness": None}}


def outputs(folder):
    """Return the bytes of all outputs."""
    return [(folder / f"new_{name}").read_bytes() for name in ("examples", "lineage", "refinement")]


def test_a_server_with_bad_days_gives_the_same_round_and_is_paid_once(tiny, tmp_path, reply, monkeypatch):
    monkeypatch.setattr(client.time, "sleep", lambda seconds: None)

    def fault(request, before):
        digest = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).digest()
        return FAULTS[(digest[0] + before) % len(FAULTS)] if before < digest[1] % 3 + 1 else ""

    folders = tmp_path / "calm", tmp_path / "rough"
    for folder, days, patience in zip(folders, (lambda *_: "", fault), (60, 2), strict=True):
        inputs = prepare(folder, tiny, ROWS, CHOSEN)
        with serving(reply, days) as server:
            run = work(inputs, folder, settings(server, prompt_price=2.0, answer_price=5.0, timeout_s=patience))
            assert len(server.paid) == 20
            assert set(server.paid.values()) == {1}
            if days is fault:
                assert len(server.asked) > 40
                assert set(server.failed) == set(FAULTS)
                assert not server.waited_out
            logged = run.metrics[-1][1]
            assert logged == {"tokens_read": 100, "tokens_written": 40, "cost": pytest.approx(0.0004)}
            again = work(inputs, folder, settings(server))
            assert sum(server.paid.values()) == 20
            assert again.metrics[-1][1]["cost"] == 0
    assert outputs(folders[0]) == outputs(folders[1])
    assert len([line for line in tables.read(folders[0] / "new_lineage", Lineage) if line.accepted]) == 10


def test_a_refinement_that_is_killed_repeats_no_call(tiny, tmp_path, reply):
    folder, calls = tmp_path / "turn", []
    inputs = {name: str(path) for name, path in prepare(folder, tiny, ROWS, CHOSEN).items()}

    def deadly(request):
        calls.append(request)
        if len(calls) == 9:  # the eighth answer was read
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        return reply(request)

    with serving(deadly) as server:
        how = settings(server, concurrency=1)
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        call = [sys.executable, "-m", "tests.stages.refine.turns", json.dumps([inputs, str(folder), how])]
        process = subprocess.Popen(call, cwd=ROOT, env=environment)
        assert process.wait() == -signal.SIGKILL
        first = {request for request, number in server.paid.items() if number}
        assert not (folder / "new_examples").exists()
        num_requests = len(server.asked)
        work(inputs, folder, how)
        later = [json.dumps(request, sort_keys=True) for request in server.asked[num_requests:]]
    assert len(first) in (8, 9)  # the ninth was written to a dead process
    kept = {request for request in first if request not in later}
    assert len(kept) == 8  # 40 % of its calls, and none was repeated
    assert len(later) == 12
    assert len(tables.read(folder / "new_examples", Example)) == 10


def test_a_server_that_is_gone_stops_the_stage_and_what_it_gave_stays(tiny, tmp_path, reply, monkeypatch):
    monkeypatch.setattr(client.time, "sleep", lambda seconds: None)
    folder = tmp_path / "turn"
    inputs = prepare(folder, tiny, ROWS, CHOSEN)
    with serving(reply, lambda *_: "500" if len(server.paid) >= 5 else "") as server:
        with pytest.raises(
            ValueError, match=r"does not answer: status 500, 4 times\. What was answered before is kept"
        ):
            work(inputs, folder, settings(server, concurrency=1))
        server.fault = lambda *_: ""
        work(inputs, folder, settings(server))
        assert set(server.paid.values()) == {1}
        assert len(server.paid) == 20


def test_what_generator_and_judge_cost_is_logged_as_one_sum(tiny, tmp_path, reply):
    folder = tmp_path / "turn"
    inputs = prepare(folder, tiny, ROWS, CHOSEN)
    with serving(lambda request: "Score: 8" if request["model"] == "judge" else reply(request)) as server:
        how = settings(server, prompt_price=2.0, answer_price=5.0)
        how["accept"]["judge"] = {"server": {"url": server.url, "model": "judge", "prompt_price": 10.0}}
        run = work(inputs, folder, how)
        assert sum(server.paid.values()) == 30
    total = {"tokens_read": 150, "tokens_written": 60, "cost": pytest.approx(0.0004 + 50 * 10 / 1e6)}
    assert run.metrics[-1][1] == total, "MLflow shows the last figure of a name"


def test_a_judge_that_reasons_is_given_the_tokens_that_its_setting_names(tiny, tmp_path, reply):
    folder = tmp_path / "turn"
    inputs = prepare(folder, tiny, ROWS, CHOSEN)
    with serving(lambda request: "Score: 8" if request["model"] == "judge" else reply(request)) as server:
        how = settings(server)
        how["accept"]["judge"] = {"server": {"url": server.url, "model": "judge", "max_new_tokens": 3000}}
        work(inputs, folder, how)
        assert {request["max_tokens"] for request in server.asked if request["model"] == "judge"} == {3000}


def test_what_was_paid_before_a_server_was_gone_is_logged(tmp_path, monkeypatch):
    monkeypatch.setattr(client.time, "sleep", lambda seconds: None)
    run, prompts = ScratchRun(tmp_path), [[Message("user", f"number {n}")] for n in range(6)]
    with serving(lambda request: "yes", lambda *_: "500" if len(server.paid) >= 4 else "") as server:
        about = Server(url=server.url, model="m", concurrency=1, prompt_price=1e6)
        with pytest.raises(ValueError, match="does not answer"):
            list(writer.of_server(about, Decoding(), run)(prompts, list("abcdef")))
    assert run.metrics == [(None, {"tokens_read": 20, "tokens_written": 8, "cost": 20.0})]
