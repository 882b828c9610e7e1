"""`ratchet review`: a person sees what was rewritten beside what it was, and what they decide is kept at once."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows import commands
from flows.commands import review as command
from flows.project import review as project
from flows.project import rounds
from tasks import configuration
from tasks.core.records import Decision, Lineage, Message, ToolCall
from tasks.io import review_decisions, tables
from tests.stages.report.material import HOSTILE, Round, trained

ROOT = Path(__file__).resolve().parents[3]
DECIDED = Path("data/review_decisions.jsonl")


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A workspace in which a turn was refined: two proposals were taken and one was refused."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    shutil.copyfile(ROOT / "params/workstation.yaml", "params.yaml")
    rounds.write_rounds(2, Path("params.yaml"))
    found = Round()
    found.write(Path("data/rounds"))
    DECIDED.touch()
    return tmp_path


@pytest.fixture
def review(workspace):
    """What the command prints while a person types these lines."""

    def of(*typed, arguments=(), code=0):
        answer = CliRunner().invoke(
            commands.application(), ["review", "--author", "Ada", *arguments], "".join(f"{word}\n" for word in typed)
        )
        assert answer.exit_code == code, answer.output
        return answer.output

    return of


def decided():
    return [json.loads(text) for text in DECIDED.read_text().splitlines()]


def editor(folder, monkeypatch, body):
    """An editor that does this to the file it is given."""
    script = folder / "editor"
    script.write_text(f"#!/bin/sh\n{body}\n")
    script.chmod(0o755)
    monkeypatch.setenv("VISUAL", f"{script} --wait")


def test_both_sides_the_signals_and_the_reason_for_the_choice_are_shown(review):
    said = review("q")
    assert "1 of 2 · simplify by rename · toolz 1: a · a2" in said
    assert "hard to learn: 4 (over 3; the mean is 2.5) before the training" in said
    assert "loss before 4, loss after 3, likeness to its neighbours 0.9, quality 6" in said
    assert said.index("── before") < said.index("return 1") < said.index("── after")


def test_a_call_of_a_tool_is_shown_on_the_terminal_too():
    calls = [ToolCall("weather", '{"city": "Bern"}', "c1")]
    said = project.conversation([Message("user", "In Bern?"), Message("assistant", "I look.", calls)])
    assert said == 'user: In Bern?\n\nassistant: I look.\nweather({"city": "Bern"})'


def test_what_is_decided_is_an_input_that_refine_reads(review):
    review("a", "", "r", "it says the same twice")
    known = review_decisions.read(DECIDED)
    assert {name: (found.decision, found.reason, found.author) for name, found in known.items()} == {
        "a2": ("accept", "", "Ada"),
        "e": ("reject", "it says the same twice", "Ada"),
    }
    assert all(found["time"].endswith("+00:00") for found in decided())


def test_an_edit_is_the_text_that_the_editor_left(review, workspace, monkeypatch):
    editor(workspace, monkeypatch, "echo 'return 3' > $2")
    review("e", "clearer", "q")
    (found,) = decided()
    assert (found["id"], found["decision"], found["text"]) == ("a2", "edit", "return 3")


@pytest.mark.parametrize("body", ["true", ": > $2", "exit 1"])
def test_a_text_that_was_left_as_it_was_or_emptied_decides_nothing(review, workspace, monkeypatch, body):
    editor(workspace, monkeypatch, body)
    assert "Nothing was edited." in review("e", "q")
    assert decided() == []


@pytest.mark.parametrize("response", ["one\r\ntwo", "one\ntwo", "one\n", "one\r\ntwo\r\n"])
@pytest.mark.parametrize("body", ["true", '[ -z "$(tail -c1 $2)" ] || echo >> $2'])
def test_line_ends_are_no_edit(workspace, monkeypatch, capsys, response, body):
    editor(workspace, monkeypatch, body)
    assert command._edited(response) == ""


def test_a_call_of_a_tool_cannot_be_edited_on_the_terminal_either(review, workspace, monkeypatch):
    made = Round()
    call = Message("assistant", "I look.", [ToolCall("weather", '{"city": "Bern"}', "c1")])
    made.second[0] = replace(made.second[0], messages=[*made.second[0].messages[:-1], call])
    made.write(Path("data/rounds"))
    editor(workspace, monkeypatch, "echo 'Sunny.' > $2")
    assert "Its answer calls a tool, which an edited text could not do." in review("e", "q")
    assert decided() == []


def test_an_editor_that_writes_no_utf8_decides_nothing(review, workspace, monkeypatch):
    editor(workspace, monkeypatch, "printf '\\351' > $2")
    assert "The edited file is not UTF-8." in review("e", "q")
    assert decided() == []


def test_an_editor_that_is_not_there_is_named(review, monkeypatch):
    monkeypatch.setenv("VISUAL", "no-such-editor")
    assert "There is no editor 'no-such-editor' here" in review("e", "q")


def test_one_can_stop_anywhere_and_go_on_there(review):
    assert "1 decided" in review("a", "", "q")
    said = review("a", "")
    assert "1 of 1 · extend" in said
    assert "no proposal waits for a decision" in review()


def test_the_end_of_what_is_typed_stops_and_keeps_what_was_decided(review):
    assert "Stopped" in review("a", "good", "a")
    assert [found["id"] for found in decided()] == ["a2"]


def test_a_row_can_be_skipped_and_is_asked_again(review):
    assert "0 decided" in review("s", "s")
    assert "1 of 2" in review("q")


def test_one_can_begin_at_any_row(review):
    said = review("q", arguments=["--start", "2"])
    assert "2 of 2 · extend" in said
    assert "1 of 2" not in said


def test_what_somebody_else_decided_meanwhile_is_told_and_not_written_over(review, monkeypatch):
    ask = command._ask

    def while_grace_decides(proposal, author):
        review_decisions.append(DECIDED, Decision(proposal.lineage.reviewed, "reject", "Grace", "wrong"))
        return ask(proposal, author)

    monkeypatch.setattr(command, "_ask", while_grace_decides)
    said = review("a", "", "q")
    assert "Grace decided on it meanwhile (reject). Nothing was written." in said
    assert "0 decided" in said
    assert {found["author"] for found in decided()} == {"Grace"}


def test_any_other_key_asks_again(review):
    review("x", "", "a", "", "q")
    assert [found["decision"] for found in decided()] == ["accept"]


def test_refused_proposals_are_shown_on_request_with_their_reason(review):
    said = review("q", arguments=["r1", "--refused"])
    assert "1 of 1 · extend by rename" in said
    assert "refused: a copy" in said
    assert "── proposed\nreturn 2" in said


def test_what_has_no_answer_is_not_offered(review):
    table = Path("data/rounds/r1/lineage.parquet")
    lines = tables.read(table, Lineage)
    tables.write(table, [replace(one, proposal=one.proposal if one.accepted else "") for one in lines], Lineage)
    assert "no proposal waits for a decision" in review(arguments=["r1", "--refused"])
    assert project.proposals("r1", configuration.load(), refused=True) == []
    assert len(project.proposals("r1", configuration.load(), refused=False)) == 2


def test_nothing_of_a_row_reaches_the_terminal_as_a_command(review):
    said = review("q")
    assert HOSTILE in trained("a").messages[0].content
    assert "\x1b" not in said
    assert "\u202e" not in said
    assert "\\u001b[2J" in said


def test_a_loop_of_one_round_is_told_what_adds_a_turn(workspace):
    rounds.write_rounds(1, Path("params.yaml"))
    with pytest.raises(ValueError, match="`ratchet rounds 2` adds a turn"):
        commands.application()(["review"], standalone_mode=False)


def test_a_turn_that_is_not_there_is_named(workspace):
    with pytest.raises(ValueError, match=r"no item 'r7'. params.yaml has turns: r1"):
        commands.application()(["review", "r7"], standalone_mode=False)


def test_an_author_that_nobody_knows_is_asked_for(workspace, monkeypatch):
    def unknown():
        raise KeyError("getpwuid(): uid not found: 1234")

    monkeypatch.setattr("getpass.getuser", unknown)
    with pytest.raises(ValueError, match="Give it with --author NAME"):
        commands.application()(["review"], standalone_mode=False)


def test_the_author_is_the_one_that_git_knows(review, workspace, monkeypatch):
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "user.name")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "Grace")
    CliRunner().invoke(commands.application(), ["review"], "a\n\nq\n")
    assert decided()[0]["author"] == "Grace"


def test_a_rewrite_that_a_person_edited_is_not_asked_about_again(review):
    edited = Round()
    edited.lineage[0] = replace(edited.lineage[0], proposed="as-proposed")
    edited.write(Path("data/rounds"))
    assert "1 of 2" in review("q")
    review("a", "", "q")
    assert decided()[0]["id"] == "as-proposed"
    assert "1 of 1" in review("q")
