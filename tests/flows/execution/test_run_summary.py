"""What the run of a flow says of itself in MLflow's table."""

import json
from pathlib import Path

import pytest

from flows.execution import run_summary
from tasks import configuration

ROOT = Path(__file__).resolve().parents[3]


def estimate(value):
    return {"value": value, "low": value - 0.1, "high": value + 0.1, "n": 9}


def row(measure, part="", unit="nats/token"):
    sides = {"before": estimate(1.0), "after": estimate(0.8), "difference": estimate(-0.2)}
    return {"measure": measure, "part": part, "unit": unit, "items": 7} | sides


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A folder with a candidate and a report."""
    monkeypatch.chdir(tmp_path)
    rows = [
        row("domain"),
        row("domain", unit="bits/byte"),
        row("pass@1", "short", "share"),
        row("pass@1", "all", "share"),
    ]
    comparison = {"here": "better", "elsewhere": "no worse", "verdict": "r0 is better.", "rows": rows}
    contents = {
        run_summary.CANDIDATE: {"candidate": "r0", "hash": "c0ffee"},
        run_summary.REPORT: {"reference": "base", "comparisons": {"r0": comparison}},
    }
    for path, content in contents.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("outcomes", "words"),
    [
        ({"fetch": "unchanged", "ingest": "unchanged"}, "nothing ran"),
        ({"fetch": "unchanged", "ingest": "ran"}, "ingest ran"),
        ({"fetch": "ran", "ingest": "ran", "tune@r0": "ran", "report": "unchanged"}, "3 of 4 stages ran"),
        ({"fetch": "restored", "ingest": "unchanged"}, "fetch restored"),
        ({"fetch": "ran", "ingest": "failed", "tune@r0": "not begun"}, "ingest failed"),
    ],
)
def test_a_title_says_what_ran(outcomes, words):
    assert run_summary.title("tiny", None, outcomes) == f"tiny · {words}"
    assert run_summary.title("tiny", "r0", outcomes) == f"tiny · r0 · {words}"


def test_the_figures_are_the_reports_with_the_ends_of_their_intervals(workspace):
    figures = run_summary.measured()
    assert (figures.candidate, figures.hash, figures.verdict) == ("r0", "c0ffee", "better here, no worse elsewhere")
    assert set(figures.metrics) == {
        f"{name}{side}{end}"
        for name in ("domain_loss", "pass_at_1")
        for side in ("", "_change")
        for end in ("", "_low", "_high")
    }
    assert figures.metrics["domain_loss"] == 0.8
    assert figures.metrics["domain_loss_change_low"] == pytest.approx(-0.3)


def test_what_has_no_interval_or_no_value_is_told_so_and_is_no_metric(workspace):
    report = json.loads(run_summary.REPORT.read_text())
    one = {"value": 0.5, "low": None, "high": None, "n": 1}
    none = {"value": None, "low": None, "high": None, "n": 0}
    report["comparisons"]["r0"]["rows"] = [row("general") | {"before": none, "after": one, "difference": none}]
    run_summary.REPORT.write_text(json.dumps(report))
    figures = run_summary.measured()
    assert figures.metrics == {"general_loss": 0.5}
    text = run_summary.description({"report": "ran"}, figures)
    assert "| general loss | 7 | not measured | 0.500 [no interval] | not measured |" in text


@pytest.mark.parametrize("path", [run_summary.CANDIDATE, run_summary.REPORT])
def test_without_a_candidate_or_a_report_there_are_no_figures(workspace, path):
    path.unlink()
    assert run_summary.measured() is None


def test_a_candidate_that_the_report_does_not_compare_has_no_figures(workspace):
    run_summary.CANDIDATE.write_text(json.dumps({"candidate": None, "why": "`models` is empty"}))
    assert run_summary.measured() is None


def test_a_description_has_the_verdict_the_measures_and_the_stages(workspace):
    text = run_summary.description({"fetch": "unchanged", "tune@r0": "ran", "report": "ran"}, run_summary.measured())
    assert text.startswith("**r0 is better.**")
    assert "| domain loss | 7 | 1.000 [0.900, 1.100] | 0.800 [0.700, 0.900] | -0.200 [-0.300, -0.100] |" in text
    assert text.endswith("unchanged (1): `fetch`\n\nran (2): `tune@r0`, `report`")


def test_settings_are_told_by_profile_base_sources_and_methods_without_a_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(configuration, "PARAMS", Path("params/tiny.yaml"))
    tags = run_summary.settings_tags(configuration.load(Path("params/tiny.yaml")))
    assert tags == {
        "profile": "tiny",
        "base": "config",
        "sources": "folder tiny-data",
        "methods": "lora × adamw × fait",
    }
    edited = tmp_path / "params.yaml"
    edited.write_text("# mine\n" + Path("params/tiny.yaml").read_text())
    monkeypatch.setattr(configuration, "PARAMS", edited)
    assert run_summary.profile_name() == "edited"


@pytest.mark.parametrize(
    ("outcomes", "has_news"),
    [
        ({"tune@r0": "ran", "report": "ran", "register": "unchanged"}, True),
        ({"tune@r0": "unchanged", "report": "unchanged", "register": "unchanged"}, False),
        ({"tune@r0": "ran", "report": "failed", "register": "ran"}, False),
        ({"tune@r0": "ran"}, False),
    ],
)
def test_figures_are_those_of_a_run_that_made_anything_and_whose_report_is_up_to_date(workspace, outcomes, has_news):
    assert (run_summary.newly_measured(outcomes) is not None) == has_news


def test_the_reports_page_card_and_tables_are_artifacts_and_what_is_there_for_programs_is_not(workspace):
    folder = run_summary.REPORT.parent
    (folder / "plots").mkdir()
    for name in ("index.html", "README.md", "plots/loss.csv"):
        (folder / name).touch()
    assert [str(path.relative_to(folder)) for path in run_summary.artifacts()] == [
        "index.html",
        "README.md",
        "plots/loss.csv",
    ]
