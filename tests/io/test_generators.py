"""A server's answers come in order, are asked for again where it is busy, and are asked for once."""

import json
import threading
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tasks.core.records import Message
from tasks.core.text.writing import Answer, Decoding, Server
from tasks.io.generators import client
from tasks.io.generators.endpoint import Endpoint

PROMPTS = [[Message("user", f"number {n}")] for n in range(6)]
KEYS = [f"key {n}" for n in range(6)]
HOW = Decoding(temperature=0.5, top_p=0.9, max_new_tokens=20)


def at(server, cache, model="m", **config):
    return Endpoint(Server(url=server.url, model=model, **config), cache)


def texts(answers):
    return [answer.text for answer in answers]


@pytest.fixture
def server(monkeypatch):
    """A server on 127.0.0.1, what it was asked, and the statuses it gives before it answers."""
    monkeypatch.setattr(client.time, "sleep", lambda seconds: waits.append(seconds))
    asked, waits, statuses, shapes, lock = [], [], [], [], threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            card = http.cards.get(self.path)
            self.send_response(200 if card else 404)
            self.end_headers()
            self.wfile.write(json.dumps(card).encode())

        def do_POST(self):
            request = json.loads(self.rfile.read(int(self.headers["content-length"])))
            asked.append((self.path, self.headers.get("authorization"), request))
            with lock:
                http.now += 1
                http.most = max(http.most, http.now)
            if http.gate:
                http.gate.wait(30)
            status = statuses.pop() if statuses else 200
            text = f"answer to {request['messages'][0]['content']}"
            body = shapes.pop() if shapes else {"choices": [{"message": {"content": text}}]}
            self.send_response(status)
            if status == 429:
                self.send_header("retry-after", http.retry_after)
            self.end_headers()
            with lock:
                http.now -= 1
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        http.url, http.asked, http.waits, http.cards = f"http://127.0.0.1:{http.server_port}/v1", asked, waits, {}
        http.statuses, http.shapes = statuses, shapes
        http.gate, http.now, http.most, http.retry_after = None, 0, 0, "3"
        yield http
        http.shutdown()


def test_answers_stand_in_the_order_of_the_prompts(server, tmp_path):
    written = texts(at(server, tmp_path).write(PROMPTS, KEYS, HOW))
    assert written == [f"answer to number {n}" for n in range(6)]
    path, _, request = next(call for call in server.asked if call[2]["messages"][0]["content"] == "number 0")
    assert path == "/v1/chat/completions"
    assert request == {
        "model": "m", "messages": [{"role": "user", "content": "number 0"}],
        "temperature": 0.5, "top_p": 0.9, "max_tokens": 20, "seed": request["seed"],
    }  # fmt: skip
    assert len({call[2]["seed"] for call in server.asked}) == 6


@pytest.mark.parametrize("concurrency", [1, 3])
def test_so_many_are_asked_at_once_and_no_more(server, tmp_path, concurrency):
    server.gate = threading.Barrier(concurrency)
    list(at(server, tmp_path, concurrency=concurrency).write(PROMPTS, KEYS, HOW))
    assert server.most == concurrency


def test_what_was_answered_is_not_asked_for_again(server, tmp_path):
    for _ in range(2):
        list(at(server, tmp_path).write(PROMPTS[:4], KEYS[:4], HOW))
    list(at(server, tmp_path).write(PROMPTS, KEYS, HOW))
    assert len(server.asked) == 6
    list(at(server, tmp_path, model="other").write(PROMPTS[:1], KEYS[:1], HOW))
    assert len(server.asked) == 7


def test_an_alias_of_the_gateway_that_leads_to_another_model_is_asked_again(server, tmp_path):
    def ask(root, spoke, text):
        server.cards["/v1/models/champion"] = {"id": "champion", "owned_by": "ratchet", "root": root}
        server.shapes[:] = [{"model": spoke, "choices": [{"message": {"content": text}}]}]
        return texts(at(server, tmp_path, model="champion").write(PROMPTS[:1], KEYS[:1], HOW))

    assert ask("ratchet@1", "ratchet@1", "of one") == ask("ratchet@1", "ratchet@1", "not asked") == ["of one"]
    assert ask("ratchet@2", "ratchet@3", "it moved meanwhile") == ["it moved meanwhile"]
    assert ask("ratchet@2", "ratchet@2", "of two") == ["of two"]
    assert ask("ratchet@1", "ratchet@1", "not asked") == ["of one"]
    assert ask("ratchet@3", "ratchet@3", "not asked") == ["it moved meanwhile"]


@pytest.mark.parametrize("status", [409, 500, 524, 529])
def test_a_server_that_may_answer_later_is_asked_again(server, tmp_path, status):
    server.statuses[:] = [status]
    assert texts(at(server, tmp_path).write(PROMPTS[:1], KEYS[:1], HOW)) == ["answer to number 0"]


def test_a_server_that_cannot_is_not_asked_again(server, tmp_path):
    server.statuses[:] = [501]
    with pytest.raises(ValueError, match="refuses: status 501"):
        list(at(server, tmp_path).write(PROMPTS[:1], KEYS[:1], HOW))
    assert len(server.asked) == 1


def broken_off(reason, **usage):
    return {"choices": [{"message": {"content": "answer t"}, "finish_reason": reason}], "usage": usage}


WHOLE = {"choices": [{"message": {"content": "whole"}, "finish_reason": "stop"}]}


@pytest.mark.parametrize("reason", ["error", "abort", None])
def test_an_answer_that_the_server_broke_off_is_asked_for_again(server, tmp_path, reason):
    server.shapes[:] = [broken_off(reason)]
    assert texts(at(server, tmp_path).write(PROMPTS[:1], KEYS[:1], HOW)) == ["answer to number 0"]
    server.shapes[:] = [*[broken_off(reason)] * 4, WHOLE]
    with pytest.raises(
        ValueError, match=f"does not answer: an answer that broke off for the reason {reason!r}, 4 times"
    ):
        list(at(server, tmp_path, concurrency=1).write(PROMPTS[1:3], KEYS[1:3], HOW))


def test_a_server_that_never_says_why_an_answer_ended_is_not_asked_again_for_each(server, tmp_path, capsys):
    server.shapes[:] = [broken_off(None, completion_tokens=20), *[broken_off(None, completion_tokens=2)] * 5]
    first, second, third = at(server, tmp_path, concurrency=1).write(PROMPTS[:3], KEYS[:3], HOW)
    assert [one.text for one in (first, second, third)] == ["answer t"] * 3
    assert [one.ended for one in (first, second, third)] == [True, True, False], (
        "20 tokens are as many as were asked for"
    )
    assert len(server.asked) == 6
    assert capsys.readouterr().out.count("never says why an answer ended") == 1
    server.shapes[:] = [*[broken_off(None)] * 4, WHOLE, *[broken_off(None)] * 4]
    with pytest.raises(ValueError, match="does not answer"):
        list(at(server, tmp_path / "later", concurrency=1).write(PROMPTS[:3], KEYS[:3], HOW))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"choices": []}, "an answer without choices"),
        ({"choices": [{"message": {"content": "Par"}, "finish_reason": "content_filter"}]}, "its filter of contents"),
        ({"choices": [{"message": {"content": None, "refusal": "I won't."}, "finish_reason": "stop"}]}, "I won't"),
    ],
)
def test_an_answer_that_is_withheld_costs_its_own_example_and_is_not_kept(server, tmp_path, body, reason):
    server.shapes[:] = [body]
    first, second = at(server, tmp_path, concurrency=1).write(PROMPTS[:2], KEYS[:2], HOW)
    assert (first.text, second) == ("", Answer("answer to number 1"))
    assert reason in first.refused
    assert texts(at(server, tmp_path).write(PROMPTS[:1], KEYS[:1], HOW)) == ["answer to number 0"]


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": [{"type": "thinking", "thinking": []}, {"type": "text", "text": "Paris."}]}, "Paris."),
        ({"role": "assistant"}, ""),
        ({"content": None, "refusal": None}, ""),
    ],
)
def test_the_text_of_an_answer_in_parts_or_without_any_is_read(server, tmp_path, message, text):
    server.shapes[:] = [{"choices": [{"message": message, "finish_reason": "stop"}]}]
    assert texts(at(server, tmp_path).write(PROMPTS[:1], KEYS[:1], HOW)) == [text]


def test_half_a_character_is_marked_as_unreadable_and_the_answer_is_kept(server, tmp_path):
    server.shapes[:] = [
        {"choices": [{"message": {"content": "Well done \N{PARTY POPPER} \ud83c"}, "finish_reason": "stop"}]}
    ]
    for _ in range(2):
        assert texts(at(server, tmp_path).write(PROMPTS[:1], KEYS[:1], HOW)) == ["Well done \N{PARTY POPPER} \ufffd"]
    assert len(server.asked) == 1


def test_a_busy_server_is_given_the_time_it_asks_for(server, tmp_path):
    server.statuses[:] = [503, 429]
    assert texts(at(server, tmp_path).write(PROMPTS[:1], KEYS[:1], HOW)) == ["answer to number 0"]
    assert server.waits == [3.0, 2.0]


@pytest.mark.parametrize(
    ("named", "waited"),
    [
        ("20.5", 20.5), ("3600", 60.0), ("0", 1.0), ("\N{SUPERSCRIPT TWO}", 1.0), ("soon", 1.0), (30, pytest.approx(30, abs=15)),
        (3600, 60.0), (-60, 1.0), ("Wed, 99 Dec 2026 00:00:00 GMT", 1.0),
    ],
)  # fmt: skip
def test_the_time_that_a_busy_server_names_is_waited_for_in_each_form(server, tmp_path, named, waited):
    """A number is so many seconds from now, as a date."""
    server.retry_after = named if isinstance(named, str) else formatdate(time.time() + named, usegmt=True)
    server.statuses[:] = [429]
    assert texts(at(server, tmp_path).write(PROMPTS[:1], KEYS[:1], HOW)) == ["answer to number 0"]
    assert server.waits == [waited]


@pytest.fixture
def in_berlin(monkeypatch):
    with monkeypatch.context() as zone:
        zone.setenv("TZ", "Europe/Berlin")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("in_berlin")
@pytest.mark.parametrize("written", [formatdate, lambda moment: time.asctime(time.gmtime(moment))])
def test_a_date_without_a_zone_is_in_utc_wherever_the_client_is(server, tmp_path, written):
    server.retry_after = written(time.time() + 30)
    server.statuses[:] = [429]
    list(at(server, tmp_path).write(PROMPTS[:1], KEYS[:1], HOW))
    assert server.waits == [pytest.approx(30, abs=15)]


def test_a_server_that_stays_busy_is_named_and_what_it_gave_is_kept(server, tmp_path):
    list(at(server, tmp_path).write(PROMPTS[:1], KEYS[:1], HOW))
    server.statuses[:] = [503] * 10
    with pytest.raises(ValueError, match=r"does not answer: status 503, 4 times"):
        list(at(server, tmp_path, concurrency=1).write(PROMPTS[:2], KEYS[:2], HOW))
    server.statuses.clear()
    calls = len(server.asked)
    list(at(server, tmp_path).write(PROMPTS[:2], KEYS[:2], HOW))
    assert len(server.asked) == calls + 1


def test_no_server_at_all_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(client.time, "sleep", lambda _: None)
    with pytest.raises(ValueError, match=r"http://127\.0\.0\.1:9/v1 does not answer"):
        list(Endpoint(Server(url="http://127.0.0.1:9/v1", model="m"), tmp_path).write(PROMPTS[:1], KEYS[:1], HOW))


@pytest.mark.parametrize(
    "url",
    [
        *["http://localhost:80a/v1", "http://", "http://[::1/v1", "http://host:99999/v1"],
        *["http://192.168.1.256:8000/v1", "http://localhost..:8000/v1", "http://local\thost/v1", "http://host/v1\n"],
    ],
)
def test_an_address_that_is_none_is_refused_as_a_setting(url):
    with pytest.raises(ValueError, match="it is not the address of a server"):
        Server(url=url, model="m")
    assert Server(url="http://[::1]:8000/v1", model="m").url == "http://[::1]:8000/v1"


def test_a_refusal_is_told_with_its_reason(server, tmp_path):
    server.statuses[:] = [404]
    server.shapes[:] = [{"error": "no such model"}]
    with pytest.raises(ValueError, match=r"refuses: status 404, .*no such model"):
        list(at(server, tmp_path).write(PROMPTS[:1], KEYS[:1], HOW))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shape", [{}, [], {"choices": [{}]}, {"choices": [{"message": {"content": {"text": "a"}}}]}])
def test_another_shape_is_reported(server, tmp_path, shape):
    server.shapes[:] = [shape]
    with pytest.raises(ValueError, match="answers in another shape"):
        list(at(server, tmp_path).write(PROMPTS[:1], KEYS[:1], HOW))


def test_the_key_comes_from_the_environment_and_goes_to_the_server_alone(server, tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET", "s3cret")
    list(at(server, tmp_path, key="SECRET").write(PROMPTS[:1], KEYS[:1], HOW))
    assert server.asked[0][1] == "Bearer s3cret"
    assert "s3cret" not in "".join(file.read_text() for file in tmp_path.iterdir())


def test_a_key_that_is_not_set_is_named(server, tmp_path, monkeypatch):
    monkeypatch.delenv("SECRET", raising=False)
    with pytest.raises(ValueError, match="environment variable SECRET is not set"):
        list(at(server, tmp_path, key="SECRET").write(PROMPTS[:1], KEYS[:1], HOW))


def test_a_key_goes_without_its_line_break_and_is_never_shown(server, tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET", "s3cret\n")
    list(at(server, tmp_path, key="SECRET").write(PROMPTS[:1], KEYS[:1], HOW))
    assert server.asked[0][1] == "Bearer s3cret"
    for value in ("s3cret\nmore", "s3crét"):
        monkeypatch.setenv("SECRET", value)
        with pytest.raises(ValueError, match=r"The environment variable SECRET holds no key") as told:
            list(at(server, tmp_path, key="SECRET").write(PROMPTS[1:2], KEYS[1:2], HOW))
        assert "s3cr" not in str(told.value)


@pytest.mark.parametrize("status", [200, 400, 401, 503])
def test_a_key_that_a_server_repeats_is_not_shown(server, tmp_path, monkeypatch, status):
    monkeypatch.setenv("SECRET", "s3cret-key")
    server.statuses[:] = [status] * 4
    server.shapes[:] = [{"error": "x" * 170 + "invalid key s3cret-key"}] * 4
    try:
        told = at(server, tmp_path, key="SECRET").write(PROMPTS[:1], KEYS[:1], HOW)
        said = " ".join(answer.refused for answer in told)
    except ValueError as error:
        said = str(error)
    assert "invalid key ***" in said
    assert "s3cr" not in said


def test_equal_questions_are_asked_once(server, tmp_path):
    written = texts(at(server, tmp_path).write([PROMPTS[0]] * 5, [KEYS[0]] * 5, HOW))
    assert (written, len(server.asked)) == (["answer to number 0"] * 5, 1)


def test_a_prompt_that_the_server_will_not_take_is_told_and_the_others_are_answered(server, tmp_path):
    server.statuses[:] = [400]
    answers = list(at(server, tmp_path, concurrency=1).write(PROMPTS[:3], KEYS[:3], HOW))
    assert texts(answers) == ["", "answer to number 1", "answer to number 2"]
    assert answers[0].refused.startswith("status 400")


def test_a_server_that_takes_no_prompt_at_all_is_an_error(server, tmp_path):
    server.statuses[:] = [400] * 3
    with pytest.raises(ValueError, match=r"refuses every request: status 400"):
        list(at(server, tmp_path).write(PROMPTS[:3], KEYS[:3], HOW))


@pytest.mark.parametrize("other", [{"model": "other"}, {"model": "m", "path": "/v1/"}])
def test_answers_of_another_model_in_the_cache_hide_no_server_that_takes_no_prompt(server, tmp_path, other):
    path = other.pop("path", "/v1")
    list(Endpoint(Server(url=server.url.replace("/v1", path), **other), tmp_path).write(PROMPTS, KEYS, HOW))
    (tmp_path / "damaged.json").write_text("[")
    server.statuses[:] = [400] * 3
    with pytest.raises(ValueError, match=r"refuses every request: status 400"):
        list(at(server, tmp_path).write(PROMPTS[:3], KEYS[:3], HOW))


def test_a_server_that_answered_before_refuses_these_prompts_alone(server, tmp_path):
    list(at(server, tmp_path).write(PROMPTS[:1], KEYS[:1], HOW))
    server.statuses[:] = [400] * 3
    answers = list(at(server, tmp_path).write(PROMPTS[1:4], KEYS[1:4], HOW))
    assert all(answer.refused.startswith("status 400") for answer in answers)


def test_one_prompt_alone_that_a_server_refuses_is_no_error(server, tmp_path):
    server.statuses[:] = [413]
    (answer,) = at(server, tmp_path).write(PROMPTS[:1], KEYS[:1], HOW)
    assert answer.refused.startswith("status 413")


def test_tokens_are_counted_once(server, tmp_path):
    usage = {"prompt_tokens": 7, "completion_tokens": 3}
    server.shapes[:] = [{"choices": [{"message": {"content": "yes"}}], "usage": usage}]
    assert list(at(server, tmp_path).write(PROMPTS[:1], KEYS[:1], HOW)) == [Answer("yes", "", 7, 3)]
    assert list(at(server, tmp_path).write(PROMPTS[:1], KEYS[:1], HOW)) == [Answer("yes")]
    server.shapes[:] = [{"choices": [{"message": {"content": "no"}}], "usage": {"prompt_tokens": None}}]
    assert list(at(server, tmp_path).write(PROMPTS[1:2], KEYS[1:2], HOW)) == [Answer("no")]


def test_an_answer_that_was_cut_off_is_one_when_it_is_kept_too(server, tmp_path):
    server.shapes[:] = [{"choices": [{"message": {"content": "Paris lies on"}, "finish_reason": "length"}]}]
    for _ in range(2):
        assert list(at(server, tmp_path).write(PROMPTS[:1], KEYS[:1], HOW)) == [Answer("Paris lies on", ended=False)]
    (kept,) = tmp_path.iterdir()
    kept.write_text(json.dumps(json.loads(kept.read_text()) | {"answer": "Paris lies on"}))  # as it was kept once
    assert texts(at(server, tmp_path).write(PROMPTS[:1], KEYS[:1], HOW)) == ["answer to number 0"]


def test_requests_keep_the_pace_that_a_server_allows(monkeypatch):
    waits = []
    monkeypatch.setattr(client.time, "monotonic", lambda: 100.0)
    monkeypatch.setattr(client.time, "sleep", waits.append)
    pace = client.Pace(30)
    for _ in range(3):
        pace.wait()
    assert waits == [2.0, 4.0]
