"""What Prefect's page of a pipeline's run links to."""

import pytest

from flows.execution import run_summary
from flows.execution.display import artifacts
from tasks.io.runs import run_links, run_store
from tests.flows.execution.test_run_summary import workspace  # noqa: F401  # a fixture is used by its name


@pytest.fixture
def shown(monkeypatch):
    """The artifacts that are made, by key."""
    made = {}
    for kind in ("create_markdown_artifact", "create_link_artifact"):
        monkeypatch.setattr(artifacts, kind, lambda content, *, key, **about: made.update({key: (content, about)}))
    return made


def test_the_run_and_its_report_have_links_to_mlflow(workspace, store, shown):  # noqa: F811
    client, experiment = run_store.connect()
    run = client.create_run(experiment, tags={"ratchet.run": "flow"}).info.run_id
    artifacts._show_verdict({"report": "ran", "register": "ran"}, "flow")
    page = f"http://127.0.0.1:5000/#/experiments/{experiment}/runs/{run}"
    assert shown[artifacts.MLFLOW][0] == f"{page}?workflowType=machine_learning"
    address, about = shown["pipeline-report"]
    assert address == f"{page}/artifacts/report/index.html?workflowType=machine_learning"
    assert about["link_text"] == "The report"
    assert about["description"] == f"In the workspace: data/report/index.html. {run_links.hint()}"
    assert shown[artifacts.VERDICT][0].startswith("**r0 is better.**")


def test_the_place_of_the_report_is_that_of_its_artifact():
    assert f"artifacts/{run_summary.PAGE.relative_to(run_summary.REPORT.parents[1])}" == run_links.REPORT


def test_a_run_that_made_nothing_has_no_report(workspace, store, shown):  # noqa: F811
    artifacts._show_verdict({"report": "unchanged", "register": "unchanged"}, "flow")
    assert "pipeline-report" not in shown
