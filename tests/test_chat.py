"""`ratchet chat`: one model or two answer what is typed, each with its own memory of the talk; two small ones may steer one."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tasks import chat
from tasks.core.records import Message
from tasks.core.text.visible import escaped
from tasks.core.text.writing import Answer
from tasks.io.runs import tracking
from tasks.io.weights import places
from tests.engine.inference.test_bank import bank_of

ROOT = Path(__file__).resolve().parents[1]
CLOSED_TRACES = """
import runpy, sys
from types import SimpleNamespace
from tasks.io.runs import tracking
tracking.traces = lambda _: SimpleNamespace(end=lambda: sys.stderr.write("ended\\n"))
sys.argv[1:] = ["base"]
runpy.run_module("tasks.chat", run_name="__main__")
"""
"""A chat that says when its traces end."""


@pytest.fixture
def models(tiny, tmp_path):
    """`models/base` and `models/tuned/r0` of a workspace; the second is the first, for it is the talk that is tested."""
    for place in ("base", "tuned/r0"):
        shutil.copytree(tiny, tmp_path / "models" / place)
    return tmp_path / "models"


@pytest.fixture
def talks(monkeypatch):
    """What the models are asked: (number of the model in order of its first question, the talk so far)."""
    asked, known = [], {}

    def reply(model, tokenizer, talk, steering):
        assert steering is None
        number = known.setdefault(id(model), len(known))
        asked.append((number, [message.content for message in talk]))
        return Answer(f"answer {len(asked)}", "", 4, 2, began=1e9, seconds=0.5)

    monkeypatch.setattr(chat, "_reply", reply)
    return asked


def type_in(monkeypatch, text):
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))


def test_both_models_answer_and_each_remembers_its_own_talk(models, talks, monkeypatch, capsys):
    type_in(monkeypatch, "first\nsecond\n\nnever read\n")
    assert chat.main(["base", "r0"]) == 0
    assert talks == [
        (0, ["first"]),
        (1, ["first"]),
        (0, ["first", "answer 1", "second"]),
        (1, ["first", "answer 2", "second"]),
    ]
    said = capsys.readouterr().out
    assert [line for line in said.splitlines() if line.startswith("──")] == ["── base ──", "── r0 ──"] * 2
    assert "answer 4" in said


def test_each_answer_is_a_trace_where_traces_of_chats_are_on(models, talks, monkeypatch):
    monkeypatch.setattr(tracking.spool_uploader, "start", lambda: None)
    monkeypatch.setenv("RATCHET_TRACES", "chat")
    type_in(monkeypatch, "first\nsecond\n")
    chat.main(["base"])
    (spool,) = tracking.SPOOL.glob("*.jsonl")
    calls = [event["call"] for event in map(json.loads, spool.read_text().splitlines()) if event["kind"] == "trace"]
    assert [call["model"] for call in calls] == ["base", "base"]
    assert [message["content"] for message in calls[1]["asked"]["messages"]] == ["first", "answer 1", "second"]
    assert calls[1]["answered"]["choices"][0]["message"]["content"] == "answer 2"
    assert (calls[1]["tokens_read"], calls[1]["tokens_written"], calls[1]["seconds"]) == (4, 2, 0.5)


def test_without_that_nothing_is_written(models, talks, monkeypatch):
    type_in(monkeypatch, "first\n")
    chat.main(["base"])
    assert not tracking.SPOOL.exists()


def test_a_reply_tells_its_tokens(tiny):
    from tasks.engine.inference.prompt_encoding import prompt_ids
    from tasks.io.weights import checkpoints

    model, tokenizer = checkpoints.load(tiny)
    asked = [Message("user", "Well?")]
    answer = chat._reply(model, tokenizer, asked, None)
    assert answer.tokens_read == len(prompt_ids(asked, tokenizer))
    assert 0 < answer.tokens_written <= chat.MAX_NEW_TOKENS
    assert answer.seconds > 0


def test_a_talk_beyond_the_context_loses_its_oldest_turns(models, talks, monkeypatch, capsys):
    monkeypatch.setattr("tasks.engine.context.longest", lambda _: 160)
    type_in(monkeypatch, f"{'a' * 60}\n{'b' * 60}\n{'c' * 200}\nd\n")
    chat.main(["base"])
    assert [talk for _, talk in talks] == [["a" * 60], ["b" * 60], ["b" * 60, "answer 2", "d"]]
    said = capsys.readouterr().out
    assert "the first 2 messages are left out" in said
    assert "This message is longer than the context of the model." in said


def test_a_talk_beyond_the_context_of_a_helper_loses_its_oldest_turns(tiny, monkeypatch):
    from tasks.engine.inference.prompt_encoding import prompt_ids
    from tasks.io.weights import checkpoints

    model, tokenizer = checkpoints.load(tiny)
    talk = [Message("user", "a" * 60), Message("assistant", "so"), Message("user", "Well?")]
    short, helper = len(prompt_ids(talk[2:], tokenizer)) + 40, object()
    monkeypatch.setattr("tasks.engine.context.longest", lambda one: short if one is helper else 500)
    steering = SimpleNamespace(helpers=[(helper, tokenizer)])
    assert chat._fitting(talk, chat._readers(model, tokenizer, None)) == talk
    readers = chat._readers(model, tokenizer, steering)
    assert chat._fitting(talk, readers) == talk[2:]
    assert chat._room(talk[2:], readers) == 40


def test_an_answer_ends_with_the_context(tiny, monkeypatch):
    from tasks.engine.inference.prompt_encoding import prompt_ids
    from tasks.io.weights import checkpoints

    model, tokenizer = checkpoints.load(tiny)
    asked = [Message("user", "Well?")]
    monkeypatch.setattr("tasks.engine.context.longest", lambda _: len(prompt_ids(asked, tokenizer)) + 3)
    assert chat._reply(model, tokenizer, asked, None).tokens_written <= 3


def test_nothing_that_a_model_writes_acts_on_the_terminal(models, monkeypatch, capsys):
    monkeypatch.setattr(chat, "_reply", lambda *_: Answer("ok \x1b[2J\u202e", "", 4, 2, began=1e9, seconds=0.5))
    type_in(monkeypatch, "first\n")
    chat.main(["base"])
    assert "── base ──\nok \\u001b[2J\\u202e\n" in capsys.readouterr().out


def test_ctrl_c_ends_a_talk_with_130_and_its_traces(models):
    (models / "base/ratchet.json").write_text("{}")
    talk = subprocess.Popen(
        [sys.executable, "-c", CLOSED_TRACES],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    while not (said := talk.stdout.read1()).endswith(b"> "):
        assert said, talk.stderr.read()
    talk.send_signal(signal.SIGINT)
    _, told = talk.communicate(timeout=60)
    assert talk.returncode == 130
    assert told == b"ended\n"


def test_ctrl_c_in_an_answer_stops_the_answer_alone(models, talks, monkeypatch, capsys):
    reply = chat._reply

    def stopped(model, tokenizer, talk, steering):
        if talk[-1].content == "second":
            raise KeyboardInterrupt
        return reply(model, tokenizer, talk, steering)

    monkeypatch.setattr(chat, "_reply", stopped)
    type_in(monkeypatch, "first\nsecond\nthird\n")
    assert chat.main(["base"]) == 0
    assert talks[-1][1] == ["first", "answer 1", "third"]
    assert "The answer was stopped and is not kept." in capsys.readouterr().out


def test_bytes_and_characters_that_the_encoding_of_the_terminal_lacks_end_no_talk(models, talks, monkeypatch):
    typed, written = io.BytesIO(b"a\xffb\n\n"), io.BytesIO()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(typed, "utf-8"))
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, "ascii"))
    assert chat.main(["base"]) == 0
    sys.stdout.flush()
    assert [talk for _, talk in talks] == [["a\N{REPLACEMENT CHARACTER}b"]]
    assert b"\\u2500 base" in written.getvalue()


def test_a_talk_can_start_afresh(models, talks, monkeypatch):
    type_in(monkeypatch, "first\n/new\nsecond\n")
    chat.main(["base"])
    assert [talk for _, talk in talks] == [["first"], ["second"]]


def test_the_answer_is_the_models_own(models, tiny, monkeypatch, capsys):
    from tasks.engine.inference import generation
    from tasks.io.weights import checkpoints

    monkeypatch.setattr(chat, "MAX_NEW_TOKENS", 6)
    type_in(monkeypatch, "Well?\n")
    chat.main(["base"])
    model, tokenizer = checkpoints.load(tiny)
    (expected,) = generation.write(model, [[Message("user", "Well?")]], tokenizer, max_new_tokens=6, batch_size=1)
    assert len(expected) > 1
    assert f"── base ──\n{escaped(expected)}\n" in capsys.readouterr().out


def test_the_champion_stands_on_the_base_that_was_kept_with_it(models, tiny, monkeypatch):
    for place in ("model", "base"):
        shutil.copytree(tiny, models / "versions/3" / place)
    (models / "champion").symlink_to("versions/3")
    loaded = []
    monkeypatch.setattr(chat.models, "load", lambda *folders: loaded.append(folders))
    chat._load("champion")
    chat._load("r0")
    assert loaded == [
        (Path("models/champion/model"), Path("models/champion/base")),
        (Path("models/tuned/r0"), places.BASE),
    ]


def test_a_model_that_is_not_there_is_answered_with_those_that_are(models):
    (models / "base/ratchet.json").write_text("{}")
    done = subprocess.run(
        [sys.executable, "-m", "tasks.chat", "r7"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "There is no model 'r7'. There are: base, tuned/r0." in done.stderr
    assert "Traceback" not in done.stderr


def ratchet_chat(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "flows.commands", "chat", *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def trio(tiny, tmp_path):
    """A large model, a small one, and an adapter on the small one, all of weights that show in what they write."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    for number, name in enumerate(("large", "small")):
        folder = tmp_path / "models" / name
        shutil.copytree(tiny, folder)
        _wide(AutoModelForCausalLM.from_pretrained(tiny), number).save_pretrained(folder)
    small = AutoModelForCausalLM.from_pretrained(tmp_path / "models/small")
    tuned = get_peft_model(small, LoraConfig(r=4, target_modules="all-linear"))
    _wide(tuned, 2, only_trained=True).save_pretrained(tmp_path / "models/tuned/r0")
    (tmp_path / "models/tuned/r0/ratchet.json").write_text("{}")
    return tmp_path / "models"


def _wide(model, seed, *, only_trained=False):
    torch.manual_seed(seed)
    for parameter in model.parameters():
        if parameter.ndim == 2 and (parameter.requires_grad or not only_trained):
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def test_an_expert_steers_and_one_that_is_an_adapter_stands_on_the_antiexpert(trio, monkeypatch, capsys):
    from tasks.io.weights import checkpoints

    monkeypatch.setattr(chat, "MAX_NEW_TOKENS", 12)

    def said(name, *steering):
        type_in(monkeypatch, "Well?\n")
        chat.main([name], *steering)
        return capsys.readouterr().out

    expert = checkpoints.load(trio / "tuned/r0", trio / "small")
    answer = chat._reply(*expert, [Message("user", "Well?")], None).text
    assert len(answer) > 1
    # The antiexpert, steered by the whole of what the expert learnt, answers as the expert.
    steering = ["r0", "small"], "proxy_tuning"
    assert f"── small ──\n{escaped(answer)}\n" in said("small", *steering) != said("small")
    assert said("large", *steering, 0.0) == said("large") != said("large", *steering, 1.0)


def test_a_decoder_that_there_is_not_is_answered_with_near_ones(trio):
    with pytest.raises(ValueError, match=r"no method 'proxy-tuning'. Did you mean proxy_tuning"):
        chat.main(["large"], ["r0", "small"], "proxy-tuning")


@pytest.mark.parametrize(
    ("alpha", "expected"), [([], None), (["--alpha", "0.5"], 0.5)], ids=["by default", "half the way"]
)
def test_the_command_hands_on_who_steers(monkeypatch, alpha, expected):
    from flows import commands

    started = []
    monkeypatch.setattr(os, "execv", lambda _, arguments: started.append(arguments))
    with pytest.raises(SystemExit):
        commands.main(["chat", "large", "--expert", "r0", "--antiexpert", "small", *alpha])
    ((_, dash, module, *rest),) = started
    assert (dash, module) == ("-m", "tasks.chat")
    found = chat._arguments(rest)
    assert vars(found) == {
        "names": ["large"],
        "steered_by": ["r0", "small"],
        "decoder": "proxy_tuning",
        "alpha": expected,
        "router": "nearest",
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a", "b", "c"), "chat takes one model or two, not 3."),
        (("a", "--expert", "b"), "Steering takes one model, an --expert and the --antiexpert"),
        (("a", "--alpha", "2"), "Steering takes one model, an --expert and the --antiexpert"),
        (("a", "b", "--expert", "c", "--antiexpert", "d"), "Steering takes one model"),
    ],
)
def test_what_chat_cannot_do_is_refused(arguments, message):
    done = ratchet_chat(*arguments)
    assert done.returncode == 1
    assert message in done.stderr + done.stdout


def test_a_bank_answers_by_the_adapter_that_the_router_chooses_and_one_of_it_by_name(
    tiny, tmp_path, talks, monkeypatch, capsys
):
    shutil.copytree(tiny, tmp_path / "models/pretrained")
    folder = bank_of(tmp_path / "models/tuned/r0", tiny, ("count", "lora"), ("colour", "lora"))
    type_in(monkeypatch, "first\n")
    chat.main(["r0", "r0/colour"])
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("──")]
    assert told == ["── r0 → count ──", "── r0/colour ──"], "its centroid is zero, the nearer one"
    assert [talk for _, talk in talks] == [["first"], ["first"]]
    with pytest.raises(ValueError, match="Router task chooses by the task in the data"):
        chat.main(["r0"], router="task")
    with pytest.raises(ValueError, match="is a bank of 2 adapters"):
        chat.main([str(folder)], ("base", "base"), "proxy_tuning")


@pytest.mark.parametrize("router", ["nearest", "dualtune"])
def test_a_bank_is_routed_by_the_turns_that_its_context_holds(
    models, tiny, talks, tmp_path, monkeypatch, capsys, router
):
    from tasks.core.answers.tool_choice import SELECT
    from tasks.engine.inference.bank import Routed

    read, route = [], Routed.route

    def watched(self, prompts, tasks=()):
        read.extend(self.bank.tokenizer.decode(prompt) for prompt in prompts)
        return route(self, prompts, tasks)

    monkeypatch.setattr(Routed, "route", watched)
    shutil.copytree(tiny, base := tmp_path / "models/pretrained")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 160}))
    shutil.rmtree(models / "tuned/r0")
    bank_of(models / "tuned/r0", base, (SELECT, "lora"), ("colour", "lora"))
    type_in(monkeypatch, f"{'a' * 60}\n{'b' * 60}\n{'c' * 200}\nd\n")
    chat.main(["r0"], router=router)
    assert [talk for _, talk in talks] == [["a" * 60], ["b" * 60], ["b" * 60, "answer 2", "d"]]
    assert [["a" * 60 in prompt, "b" * 60 in prompt] for prompt in read] == [
        [True, False],
        [False, True],
        [False, True],
    ]
    assert "This message is longer than the context of the model." in capsys.readouterr().out
