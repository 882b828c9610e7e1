"""Flow runs are told apart by their names in Prefect's lists."""

import pytest
from prefect import runtime

from flows.execution import run_summary
from flows.execution.display import run_names


@pytest.fixture(autouse=True)
def _profile(monkeypatch):
    monkeypatch.setattr(run_summary, "profile_name", lambda: "tiny")


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        ({}, "tiny · all stages"),
        ({"stages": None}, "tiny · all stages"),
        ({"stages": ["tune@r0", "report"]}, "tiny · tune@r0, report"),
    ],
)
def test_a_pipeline_is_named_by_its_profile_and_its_stages(monkeypatch, parameters, name):
    monkeypatch.setitem(vars(runtime.flow_run), "parameters", parameters)
    assert run_names.pipeline() == name


@pytest.mark.parametrize(
    ("deployment", "name"), [("nightly", "tiny · retrain nightly"), (None, "tiny · retrain by hand")]
)
def test_a_night_is_named_by_what_began_it(monkeypatch, deployment, name):
    monkeypatch.setitem(vars(runtime.deployment), "name", deployment)
    assert run_names.of("retrain")() == name


def test_a_workspace_without_settings_has_a_run_with_a_name_all_the_same(monkeypatch):
    def missing():
        raise FileNotFoundError("params.yaml")

    monkeypatch.setattr(run_summary, "profile_name", missing)
    monkeypatch.setitem(vars(runtime.flow_run), "parameters", {})
    assert run_names.pipeline() == "all stages"
