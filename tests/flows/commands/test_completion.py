"""Completion by the shell: names of the workspace, at once."""

import pytest

from flows import commands
from flows.commands import _completion
from flows.execution.dvc import graph_file
from tests.flows.conftest import ROOT

pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")  # in dvc itself
HEAVY = ("torch", "dvc", "mlflow", "prefect", "pydantic")


@pytest.fixture
def in_repository(monkeypatch):
    monkeypatch.chdir(ROOT)


def completed(monkeypatch, capsys, shell, *words):
    """The words that a shell offers after those of a line; the last one is not complete."""
    line = " ".join(["ratchet", *words])
    monkeypatch.setenv("_RATCHET_COMPLETE", f"complete_{shell}")
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", line)
    monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(words)))
    with pytest.raises(SystemExit) as end:
        commands.main([])
    assert not end.value.code
    return capsys.readouterr().out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_a_profile(in_repository, monkeypatch, capsys, shell):
    said = completed(monkeypatch, capsys, shell, "use", "mic")
    assert "micro" in said
    assert "tiny" not in said


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_its_script(shell, capsys, monkeypatch):
    monkeypatch.setenv("_RATCHET_COMPLETE", f"source_{shell}")
    with pytest.raises(SystemExit) as end:
        commands.main([])
    assert not end.value.code
    assert "_RATCHET_COMPLETE=complete_" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("st",), ["status"]),
        (("run", "tune"), ["tune", "tune@r0", "tune@r1"]),
        (("plan", "evaluate@r"), ["evaluate@r0", "evaluate@r1"]),
        (("compare", "lol"), ["loldu"]),
        (("compare", "midd"), ["middo"]),
        (("methods", "adapt"), ["adapters"]),
        (("verify", "ba"), ["base"]),
        (("chat", "b"), ["base"]),
        (("review", "r"), ["r1"]),
        (("why", "ch"), ["champion"]),
        (("chat", "base", "--decoder", "pro"), ["proxy_tuning"]),
    ],
)
def test_what_is_completed(in_repository, monkeypatch, capsys, words, offered):
    assert completed(monkeypatch, capsys, "bash", *words).split() == offered


def test_recipes_are_completed(in_repository):
    recipes = {path.stem for path in (ROOT / "params/compare").glob("*.yaml")}
    assert recipes
    assert recipes <= set(_completion.compositions(""))


def test_stages_are_those_of_dvc(in_repository):
    from flows.execution.dvc import forecast

    plain = [
        name for name in graph_file.stage_names() if name not in ("tune", "faults", "diagnose", "refine", "evaluate")
    ]
    assert sorted(plain) == sorted(step.stage for step in forecast.plan())


@pytest.mark.parametrize("text", [None, "", "stages: [", "stages: 3", "- a", "\xff"])
def test_a_folder_without_a_graph_completes_nothing(monkeypatch, tmp_path, text):
    monkeypatch.chdir(tmp_path)
    if text is not None:
        (tmp_path / "dvc.yaml").write_text(text, encoding="latin-1")
        (tmp_path / "params.yaml").write_text(text, encoding="latin-1")
    assert _completion.stages("") == []
    assert _completion.profiles("") == []
    assert _completion.turns("") == []


def test_nothing_heavy_is_loaded(workspace):
    program = (
        "import sys, flows.commands as c; c.application(); from flows.commands import _completion as n; "
        "n.stages(''); n.method_names(''); n.compositions(''); n.profiles(''); "
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    assert workspace.run("timeit", "-n1", "-r1", program).stdout.splitlines()[0] == "[]"
