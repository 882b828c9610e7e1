"""`ratchet chat`: one model or two answer what is typed, each with its own memory of the talk."""

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.engine import chat

ROOT = Path(__file__).resolve().parents[2]


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

    def reply(model, tokenizer, talk):
        number = known.setdefault(id(model), len(known))
        asked.append((number, [message.content for message in talk]))
        return f"answer {len(asked)}"

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


def test_a_talk_can_start_afresh(models, talks, monkeypatch):
    type_in(monkeypatch, "first\n/new\nsecond\n")
    chat.main(["base"])
    assert [talk for _, talk in talks] == [["first"], ["second"]]


def test_the_answer_is_the_models_own(models, tiny, monkeypatch, capsys):
    from tasks.core.records import Message
    from tasks.engine import generation
    from tasks.io import checkpoints

    monkeypatch.setattr(chat, "MAX_NEW_TOKENS", 6)
    type_in(monkeypatch, "Well?\n")
    chat.main(["base"])
    model, tokenizer = checkpoints.load(tiny)
    (expected,) = generation.greedy(model, [[Message("user", "Well?")]], tokenizer, max_new_tokens=6, batch_size=1)
    assert len(expected) > 1
    assert f"── base ──\n{expected}\n" in capsys.readouterr().out


def test_a_model_that_is_not_there_is_answered_with_those_that_are(models):
    (models / "base/ratchet.json").write_text("{}")
    done = subprocess.run(
        [sys.executable, "-m", "tasks.engine.chat", "r7"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "There is no model 'r7'. There are: base, tuned/r0." in done.stderr
    assert "Traceback" not in done.stderr


def test_three_models_are_refused(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "flows.commands", "chat", "a", "b", "c"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "chat takes one model or two, not 3." in done.stderr + done.stdout
