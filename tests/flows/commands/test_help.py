"""Help: commands in groups, whole first sentences, nothing wider than the terminal; near matches for what is mistyped."""

import pytest

from flows import commands
from flows.commands import _help


def shown(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        commands.main(arguments)
    return end.value.code, capsys.readouterr()


def test_every_command_is_in_one_group():
    grouped = [name for names in _help.GROUPS.values() for name in names]
    assert sorted(grouped) == commands.names()
    assert list(_help.GROUPS) == ["Data", "Run", "Look", "Compare", "Promote", "Serve", "Workspace"]


@pytest.mark.parametrize("columns", [80, 40])
def test_first_sentences_are_whole_at_any_width(columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    code, said = shown(capsys, "--help")
    assert code == 0
    assert max(map(len, said.out.splitlines())) <= columns
    assert "..." not in said.out.partition("\n\n")[2]
    words = " ".join(said.out.split())
    for name in commands.names():
        sentence = _help.first_sentence(commands.function(name).__doc__)
        assert len(sentence) < 90, f"{name}: a sentence that is read at a glance"
        assert f" {name} {sentence}" in words
    assert said.out.index("\nData:\n") < said.out.index("\n  init ") < said.out.index("\nRun:\n")


@pytest.mark.parametrize("name", commands.full_names())
def test_the_help_of_a_command_fits_a_narrow_terminal(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    code, said = shown(capsys, *name.split(), "--help")
    assert code == 0
    assert max(map(len, said.out.splitlines())) <= 40
    about = " ".join((commands.function(name).__doc__ or "").split())
    assert about in " ".join(said.out.split())


def test_a_sentence_ends_at_its_full_stop():
    assert _help.first_sentence("Do this\n    and that. Then more.\n\n    Example: x") == "Do this and that."
    assert _help.first_sentence("Put 3.5 in models/a.b.\n") == "Put 3.5 in models/a.b."


@pytest.mark.parametrize(("wrong", "meant"), [("stauts", "status"), ("plna", "plan"), ("compère", "compare")])
def test_a_mistyped_command_gets_near_matches(wrong, meant, capsys):
    code, said = shown(capsys, wrong)
    assert code == 2
    assert f"No such command '{wrong}'. Did you mean '{meant}'" in said.err


def test_a_mistyped_subcommand_gets_near_matches(capsys):
    code, said = shown(capsys, "data", "smaple")
    assert code == 2
    assert "No such command 'smaple'. Did you mean 'sample'" in said.err


def test_the_help_of_a_command_lists_its_subcommands(capsys):
    code, said = shown(capsys, "data", "--help")
    assert code == 0
    for name in commands.subcommands("data"):
        assert f" {name} {_help.first_sentence(commands.function(f'data {name}').__doc__)}" in " ".join(
            said.out.split()
        )


def test_a_command_that_resembles_none_gets_the_way_to_the_list(capsys):
    code, said = shown(capsys, "xyzzy")
    assert code == 2
    assert "Try 'ratchet --help' for help." in said.err


def test_a_mistyped_option_gets_near_matches(capsys):
    code, said = shown(capsys, "doctor", "--gpu", "2")
    assert code == 2
    assert "--gpus" in said.err
