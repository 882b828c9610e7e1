"""`ratchet report`: the page of a workspace, and of any two models, within seconds."""

import json
import os
import shutil
import subprocess
import webbrowser
from html import unescape
from pathlib import Path

import pytest
import yaml

from flows.commands import main
from flows.experiments import report_page
from flows.registry import promotion
from tests.flows.registry.test_promotion import ROOT, Nights
from tests.stages.report.material import Round, results, run_stage
from tests.stages.report.reading import Page, own_scripts_alone

MODELS = {
    "base": results(passed=[True, False]),
    "r0": results(1.5, passed=[True, True]),
    "r1": results(1.4, passed=[False, True]),
}


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A workspace whose models were measured."""
    run_stage(tmp_path / "made", MODELS, turn=Round())
    made, folder = tmp_path / "made", tmp_path / "workspace"
    places = {
        "ratchet.json": "models/base/ratchet.json",
        "tuned": "models/tuned",
        "ingested.json": "data/ingested/report.json",
        "test.parquet": "data/ingested/test.parquet",
        "documents.parquet": "data/ingested/test_documents.parquet",
        "metrics": "data/metrics",
        "results": "data/results",
        "selection.json": "data/selection.json",
        "rounds": "data/rounds",
    }
    for name, place in places.items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(made / name, folder / place)
    config = yaml.safe_load((ROOT / "params/micro.yaml").read_text())
    groups = {name: "rounds" if name != "base" else "reference" for name in MODELS}
    config |= {
        "rounds": {"r0": {}, "r1": {}},
        "turns": {"r1": {"prev": "r0"}},
        "models": {name: {"path": f"models/tuned/{name}", "base": "models/base", "group": group} for name, group in groups.items()},
    }  # fmt: skip
    (folder / "params.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/none.db")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    subprocess.run(["git", "init", "-q"], check=True)
    return folder


def shown(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def test_the_page_of_a_workspace_is_made_within_seconds(workspace):
    began = sum(os.times()[:4])  # with the process that makes the page
    path, verdict = report_page.of_workspace()
    assert sum(os.times()[:4]) - began < 10, "CPU-seconds of a loaded machine"
    assert path == Path(".ratchet/report/index.html")
    assert verdict.startswith("r0 is better here and no worse elsewhere")
    assert own_scripts_alone(shown(path))
    assert shown(path).items["models"] == ["base", "r0", "r1"]


def test_any_two_models_can_be_compared_the_second_with_the_first(workspace):
    path, verdict = report_page.of_two("r0", "r1")
    assert verdict.startswith("r1 is better here")
    page = shown(path)
    assert page.items["models"] == ["r0", "r1"]
    assert "r1 against r0" in " ".join(page.text.split())
    assert page.items["items"][page.items["item"][0]] == "t0", "the answer that was lost"


def commands(path: Path) -> list[str]:
    """The commands below "Three commands that give the same", without what is said of each."""
    html = path.read_text(encoding="utf-8").partition("Three commands that give the same")[2]
    lines = html.partition("</pre>")[0].rpartition(">")[2].splitlines()
    return [unescape(line).partition("   #")[0].rstrip() for line in lines]


def test_each_page_has_the_three_commands_that_give_it(workspace):
    here, _ = report_page.of_workspace()
    assert commands(here) == ["git checkout COMMIT", "make install", "ratchet run"]
    names = ["add", "params.yaml"], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "one"]
    for words in names:
        subprocess.run(["git", *words], check=True)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    of_two, _ = report_page.of_two("r0", "r1")
    checkout, *others = commands(of_two)
    assert checkout.removeprefix("git checkout ") == commit[: len(checkout) - len("git checkout ")]
    assert len(checkout) > len("git checkout ") + 6
    assert others == ["make install", "ratchet report r0 r1"]
    assert "in a fresh clone ratchet run comes before it" in " ".join(shown(of_two).text.split())


def test_the_command_names_the_page_and_the_verdict(workspace, capsys):
    with pytest.raises(SystemExit) as end:
        main(["report", "base", "r1"])
    assert end.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "r1 is better here" in said
    assert "Report: .ratchet/report/base-r1.html" in said


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("r0", "basse"), "'basse' is neither a model .* Did you mean base"),
        (("r0", "quite else"), "Models are: base, r0, r1"),
        (("r0", "candidate"), "candidate"),
        (("r0", "champion"), "There is no champion"),
        (("none:r0", "r0"), "git"),
    ],
)
def test_a_name_that_is_no_model_is_reported(workspace, names, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        report_page.of_two(*names)


def test_one_name_alone_is_told_that_two_are_compared(workspace, capsys):
    with pytest.raises(SystemExit) as end:
        main(["report", "r0"])
    assert end.value.code
    assert "name another one beside r0" in capsys.readouterr().err


def test_a_model_of_the_registry_is_not_compared_with_one_of_another_set(workspace, monkeypatch):
    record = object()
    monkeypatch.setattr(
        report_page, "_side", lambda name, _: report_page.Side(name, Path("x"), record=record if name == "1" else None)
    )
    with pytest.raises(ValueError, match="1 was measured on the gate set, and r0 on the test set"):
        report_page.of_two("r0", "1")


def night(nights: Nights, name: str, loss: float) -> None:
    """A night whose model was trained with this name as its seed."""
    tune = {
        "deps": [],
        "params": {"params.yaml": {"tune": {"seed": name}}},
        "outs": [{"path": "models/tuned/r0", "md5": name}],
    }
    lock = {"schema": "2.0", "stages": {"tune": tune}}
    (nights.folder / "dvc.lock").write_text(yaml.safe_dump(lock, sort_keys=False))
    nights.night(name, loss)


def test_two_versions_are_compared_on_the_gate_set_with_what_changed(tmp_path, store):
    nights = Nights(tmp_path)
    for name, loss in (("one", 1.9), ("two", 1.8)):
        night(nights, name, loss)
        promotion.promote()
    run_stage(tmp_path / "made", MODELS)
    for name, place in {
        "ratchet.json": "models/base/ratchet.json",
        "ingested.json": "data/ingested/report.json",
        "test.parquet": "data/ingested/gate.parquet",
        "documents.parquet": "data/ingested/gate_documents.parquet",
    }.items():
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tmp_path / "made" / name, tmp_path / place)
    path, verdict = report_page.of_two("1", "2")
    assert verdict.startswith("version 2 is better here")
    text = " ".join(shown(path).text.split())
    assert "What changed since version 1" in text
    assert "tune.seed: one → two" in text
    assert "trainable parameters – –" in text, "a version keeps no such figures"
    with pytest.raises(ValueError, match="2 and champion are both version 2: name two models"):
        report_page.of_two("2", "champion")


def test_the_page_of_a_workspace_tells_what_changed_since_the_champion(workspace, store):
    settings = Path("params.yaml").read_text()
    nights = Nights(workspace)
    night(nights, "one", 1.9)
    promotion.promote()
    night(nights, "two", 1.8)
    Path("params.yaml").write_text(settings)
    path, _ = report_page.of_workspace()
    text = " ".join(shown(path).text.split())
    assert "What changed since the champion, version 1" in text
    assert "tune.seed: one → two" in text


def test_telemetry_has_tokens_a_second_over_the_trained_tokens(workspace, monkeypatch):
    monkeypatch.setattr(
        report_page.run_curves,
        "of_stage",
        lambda stage, metrics: (
            {"train/tokens_per_second": [(1, 50.0), (3, 60.0), (9, 1.0)]} if stage == "tune@r0" else {}
        ),
    )
    path, _ = report_page.of_workspace()
    (chart,) = (
        chart for chart in shown(path).charts if chart["description"] == "Tokens per second over trained tokens"
    )
    steps = chart["layer"][0]["data"]["values"]
    assert [(row["model"], row["x"], row["y"]) for row in steps] == [("r0", 100, 50.0), ("r0", 300, 60.0)]
    assert json.dumps(chart).count("r1") >= 1, "its colour is kept"


@pytest.mark.parametrize("command", [("open", "report"), ("report", "--open")])
def test_the_page_is_opened_in_a_browser(workspace, monkeypatch, capsys, command):
    pages: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda address: pages.append(address) or True)
    with pytest.raises(SystemExit) as end:
        main(command)
    assert end.value.code == 0
    assert pages == [(workspace / ".ratchet/report/index.html").as_uri()]
    assert "Report: .ratchet/report/index.html" in capsys.readouterr().out


def test_the_runs_of_the_stages_are_named_with_their_pages(workspace, monkeypatch):
    address = "http://127.0.0.1:5000/#/experiments/1/runs/abc"
    monkeypatch.setattr(report_page.run_links, "of_outputs", lambda: {"tune@r0": ("tune@r0 · lora", address)})
    path, _ = report_page.of_workspace()
    html = path.read_text(encoding="utf-8")
    assert f'<th scope="row">tune@r0</th><td><a href="{address}">tune@r0 · lora</a></td>' in html
    assert "Its links answer while `ratchet ui` runs (port 5000)." in shown(path).text
