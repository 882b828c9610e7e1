"""A writer of this machine answers from its cache what the same model would write again, and nothing else."""

import json
import shutil

import pytest

from tasks.core.compute import Compute
from tasks.core.records import Message
from tasks.core.text.writing import Decoding
from tasks.engine.inference import local_model, writer
from tests import tiny as small
from tests.support import ScratchRun

TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


@pytest.fixture
def folder(tiny, tmp_path):
    return shutil.copytree(tiny, tmp_path / "model")


def calls(folder, run, compute=small.FP32):
    """How many answers the model has written so far, after it was asked once more."""
    write = writer.of_model(folder, Decoding(max_new_tokens=3), compute, run)
    write([[Message("user", "hello")]], ["key"])
    return len(run.calls)


def test_the_same_question_is_written_once(folder, tmp_path):
    run = ScratchRun(tmp_path)
    assert [calls(folder, run), calls(folder, run)] == [1, 1]


def test_an_answer_that_was_cut_off_is_one_when_it_is_kept_too(folder, tmp_path, monkeypatch):
    from tasks.engine.inference import generation

    run, cut = ScratchRun(tmp_path), [generation.Response("Paris lies", False)]
    monkeypatch.setattr(generation, "respond", lambda *_, **__: cut)
    write = writer.of_model(folder, Decoding(max_new_tokens=3), small.FP32, run)
    for _ in range(2):
        assert [answer.ended for answer in write([[Message("user", "Where?")]], ["key"])] == [False]
    (kept,) = (run.cache / "answers").iterdir()
    kept.write_text(json.dumps(json.loads(kept.read_text()) | {"answer": ["Paris lies"]}))  # as it was kept once
    write([[Message("user", "Where?")]], ["key"])
    assert len(run.calls) == 2


def test_programs_end_with_their_block_and_other_answers_do_not(folder, tmp_path, monkeypatch):
    from tasks.engine.inference import generation

    def respond(*_, programs, **__):
        return [generation.Response("a block" if programs else "a block and more", True)]

    monkeypatch.setattr(generation, "respond", respond)
    for programs, text in ((True, "a block"), (False, "a block and more"), (True, "a block")):
        run = ScratchRun(tmp_path)
        write = writer.of_model(folder, Decoding(max_new_tokens=3), small.FP32, run, programs=programs)
        assert [answer.text for answer in write([[Message("user", "Write.")]], ["key"])] == [text], "kept apart"


def test_another_chat_template_asks_anew(folder, tmp_path):
    run = ScratchRun(tmp_path)
    calls(folder, run)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    assert calls(folder, run) == 2
    small.add_template(folder, "tool_use")
    assert calls(folder, run) == 3


def test_another_precision_asks_anew_and_auto_is_what_it_has_become(folder, tmp_path, monkeypatch):
    run, auto = ScratchRun(tmp_path), Compute(threads=1)
    assert calls(folder, run, small.FP32) == 1
    for resolved, written in (("fp32", 1), ("bf16", 2)):
        monkeypatch.setattr("tasks.engine.device.precision", lambda _, resolved=resolved: resolved)
        assert calls(folder, run, auto) == written


def test_other_code_or_another_class_of_machine_asks_anew(folder, monkeypatch):
    known = [local_model.identity(folder, None, small.FP32)]
    monkeypatch.setattr("tasks.io.provenance.machine_class", lambda: {"processor": "another"})
    known.append(local_model.identity(folder, None, small.FP32))
    monkeypatch.setattr("tasks.io.provenance.code_digest", lambda _: "other code")
    known.append(local_model.identity(folder, None, small.FP32))
    assert known[0] != known[1] != known[2]
