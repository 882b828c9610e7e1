"""A server's responses are those of this machine for the same weights, and other weights are found out."""

import pytest
import torch

from tasks.core.records import Message
from tasks.core.text.writing import Server
from tasks.engine.inference import generation, prompt_encoding, served
from tasks.engine.inference.generation import Response, Sampling
from tasks.engine.inference.served import ServedModel
from tasks.io.generators import client, completions
from tasks.io.weights import checkpoints
from tests import chat_server
from tests.model_server import serving_weights
from tests.support import ScratchRun

PROMPTS = [[Message("user", f"Tell me of {'many ' * n}things.")] for n in (4, 0, 2, 1, 3)]


def drawn(tiny, seed):
    """A model of random weights, drawn so wide that they show, and its tokenizer."""
    network, tokenizer = checkpoints.load(tiny)
    torch.manual_seed(seed)
    for parameter in network.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.2)
    return network, tokenizer


@pytest.fixture
def pair(tiny):
    return drawn(tiny, 1)


@pytest.fixture
def of(pair, tmp_path):
    """Return a model that is served at a URL, and on this machine."""

    def make(server, identity="weights", **settings):
        named = Server(url=server.url, model="m", **settings)
        return ServedModel(named, *pair, identity, ScratchRun(tmp_path))

    return make


def respond(model, prompts=PROMPTS, sampling=None, stop=(), max_new_tokens=12, programs=False):
    return model.respond(prompts, max_new_tokens=max_new_tokens, sampling=sampling, stop=stop, programs=programs)


def local(pair, prompts=PROMPTS, **options):
    return generation.respond(*[pair[0], prompts, pair[1]], max_new_tokens=12, batch_size=2, **options)


def test_greedy_responses_are_those_of_this_machine_in_the_order_of_the_prompts(pair, of, monkeypatch):
    monkeypatch.setattr(client.time, "sleep", lambda seconds: None)

    def busy(request, before):
        return {0: "429", 1: "500", 2: "cut"}.get(before, "") if len(request["prompt"]) % 2 else ""

    with serving_weights(*pair, fault=busy) as server:
        expected = local(pair)
        assert respond(of(server, concurrency=3)) == expected
        piece = expected[0].text[2:4]
        stopped = respond(of(server), stop=[piece])
    assert stopped == local(pair, stop=[piece])
    assert stopped[0] == Response(expected[0].text.partition(piece)[0], True)
    assert not expected[0].ended  # it was cut off by its length
    assert set(server.failed) == {"429", "500", "cut"}
    assert len({response.text for response in expected}) == 5, "all alike would hide a mix-up"


def test_the_request_says_all_that_the_text_depends_on(pair, of):
    with serving_weights(*pair) as server:
        respond(of(server), PROMPTS[:1], stop=["END"])
        keys = ["0 a 0", "0 a 1"]
        samples = respond(of(server), PROMPTS[:1] * 2, Sampling(1.5, 0.9, keys))
        again = respond(of(server, identity="others"), PROMPTS[:1] * 2, Sampling(1.5, 0.9, keys))
    greedy, *rest = server.asked
    assert greedy == {
        "model": "m", "prompt": prompt_encoding.prompt_ids(PROMPTS[0], pair[1]), "max_tokens": 12, "stop": ["END"],
        "temperature": 0.0, "top_p": 1.0, "top_k": -1, "min_p": 0.0, "seed": greedy["seed"],
        "repetition_penalty": 1.0, "repeat_penalty": 1.0, "repeat_last_n": -1,
    }  # fmt: skip
    assert {(request["temperature"], request["top_p"]) for request in rest} == {(1.5, 0.9)}
    assert len({request["seed"] for request in rest}) == 2
    assert samples == again
    assert samples[0] != samples[1]


@pytest.mark.parametrize(
    ("text", "reason", "stop", "expected"),
    [
        ("It is so.", "stop", (), Response("It is so.", True)),
        ("It is s", "length", (), Response("It is s", False)),
        ("Here:\n```\nf()\n```\nand `g()`", "length", (), Response("Here:\n```\nf()\n```", True)),
        ("Here:\n```\nf()", "length", (), Response("Here:\n```\nf()", False)),
        ("A. END B\n```\nc\n```", "length", ["END"], Response("A. ", True)),
        ("```\nEND\n``` more", "stop", ["more", "END"], Response("```\n", True)),
    ],
)
def test_a_completion_ends_where_a_response_of_this_machine_does(of, text, reason, stop, expected):
    with chat_server.serving(lambda request: (text, reason)) as server:
        assert respond(of(server), PROMPTS[:1], stop=stop, programs=True) == [expected]
        assert respond(of(server), PROMPTS[:1], stop=stop, programs=True) == [expected]  # as it is kept
    assert len(server.asked) == 1


def test_the_text_of_a_completion_that_is_no_program_goes_on_behind_a_block(of):
    text = "```python\nprint(6 * 7)\n```\nThe answer is 42."
    with chat_server.serving(lambda request: (text, "stop")) as server:
        assert respond(of(server), PROMPTS[:1]) == [Response(text, True)]


def test_responses_are_kept_by_weights_and_requests_whatever_the_address(pair, of):
    with serving_weights(*pair) as first, serving_weights(*pair) as second:
        assert respond(of(first)) == respond(of(second))
        assert (len(first.asked), len(second.asked)) == (5, 0)
        respond(of(second, identity="other weights"), PROMPTS[:1])
        respond(of(second), PROMPTS[:1], max_new_tokens=3)
        assert len(second.asked) == 2


def test_tokens_and_cost_are_logged(pair, of):
    with serving_weights(*pair) as server:
        model = of(server, prompt_price=2.0, answer_price=5.0)
        respond(model)
        respond(model, PROMPTS[:2], max_new_tokens=3)
    logged = {"served_tokens_read": 35, "served_tokens_written": 14, "served_cost": pytest.approx(140e-6)}
    assert model._run.metrics[-1] == (None, logged)


def test_equal_weights_pass_without_a_word(pair, of):
    with serving_weights(*pair) as server:
        model = of(server)
        model.compare(PROMPTS[:2])
        model.compare(PROMPTS[:2])
    assert model._run.said == []
    assert model._run.notes == {"served_probes": 2, "served_differences": 0}
    assert len(server.asked) == 4  # a probe is not kept


def test_other_weights_are_refused_with_both_texts(tiny, pair, of):
    with serving_weights(*drawn(tiny, 2)) as server, pytest.raises(ValueError, match="serves other weights") as caught:
        of(server).compare(PROMPTS[:2])
    assert server.url in str(caught.value)
    assert "as 'm'. It writes '" in str(caught.value)


def test_the_gap_is_that_of_the_least_likely_token(pair, of):
    network, tokenizer = pair
    ids, text = prompt_encoding.prompt_ids(PROMPTS[1], tokenizer), "no such answer"
    response = tokenizer(text, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        logits = network(input_ids=torch.tensor([[*ids, *response]])).logits[0]
    rows = logits[len(ids) - 1 : -1]
    gap = float((rows.max(dim=1).values - rows.gather(1, torch.tensor(response)[:, None])[:, 0]).max())
    with (
        chat_server.serving(lambda request: (text, "length")) as server,
        pytest.raises(ValueError, match=rf"'no such answer'.* is {gap:.2f} nats less likely"),
    ):
        of(server).compare(PROMPTS[1:2])


def test_a_server_that_ends_before_the_weights_do_is_refused(pair, of):
    with (
        chat_server.serving(lambda request: ("", "stop")) as server,
        pytest.raises(ValueError, match=r"It writes '', and"),
    ):
        of(server).compare(PROMPTS[:1])


def test_texts_that_rounding_explains_are_a_warning(of, monkeypatch):
    monkeypatch.setattr(served, "MAX_GAP", 1000.0)
    with chat_server.serving(lambda request: ("no such answer", "length")) as server:
        model = of(server)
        model.compare(PROMPTS[:2])
    (said,) = model._run.said
    assert said.startswith(f"warning: {server.url} rounds otherwise than this machine in 2 of 2 probes.")
    assert model._run.notes == {"served_probes": 2, "served_differences": 2}


def test_a_repetition_penalty_is_passed_on_and_another_rule_is_refused(pair, of):
    config = pair[0].generation_config
    config.repetition_penalty = 1.3
    with serving_weights(*pair) as server:
        assert respond(of(server)) == local(pair)
        of(server).compare(PROMPTS[:2])
        assert {(request["repetition_penalty"], request["repeat_penalty"]) for request in server.asked} == {(1.3, 1.3)}
        config.no_repeat_ngram_size = 2
        with pytest.raises(ValueError, match="asks for NoRepeatNGramLogitsProcessor, and a server cannot be told"):
            respond(of(server))


def test_a_rejected_prompt_is_told_with_its_size_and_what_would_do(of):
    with (
        chat_server.serving(lambda request: "", lambda request, before: "400") as server,
        pytest.raises(ValueError, match=r"rejects a prompt of \d+ tokens: status 400.*longer context") as caught,
    ):
        respond(of(server), PROMPTS[:1])
    assert str(caught.value).startswith(server.url)


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("content_filter", "for the reason 'content_filter', and 'stop' or 'length' is needed"),
        ("abort", "does not answer: an answer that broke off for the reason 'abort', 4 times"),
        (None, "for the reason None, and 'stop' or 'length' is needed"),
    ],
)
def test_a_completion_without_a_known_end_is_refused(of, monkeypatch, reason, told):
    monkeypatch.setattr(client.time, "sleep", lambda seconds: None)
    with (
        chat_server.serving(lambda request: ("text", reason)) as server,
        pytest.raises(ValueError, match=told),
    ):
        respond(of(server), PROMPTS[:1])


def test_a_server_is_described_by_what_lasts(tmp_path):
    with chat_server.serving(lambda request: "") as server:
        described = completions.describe(Server(url=server.url, model="m"))
        assert described == {"id": "m", "owned_by": "stand-in", "version": "1.0"}
        with pytest.raises(ValueError, match=r"does not serve 'r0'\. It lists: 'm'\. Serve the model by that name"):
            completions.describe(Server(url=server.url, model="r0"))
        server.models = {"models": ["m"]}
        with pytest.raises(ValueError, match="answers in another shape"):
            completions.describe(Server(url=server.url, model="m"))
        with pytest.raises(ValueError, match=r"refuses: status 404, .*Its API is below `/v1`"):
            completions.describe(Server(url=server.url.removesuffix("/v1"), model="m"))
