"""The store that runs are kept in: whether it can be used, and what is said where it cannot."""

import json
import sys
import time

import pytest

from tasks.io.runs import experiment_page, run_store


def test_a_store_that_can_be_written_passes(store):
    run_store.check()
    store.unlink()
    run_store.check()


@pytest.mark.parametrize("damage", ["folder", "no-parent", "no-database"])
def test_an_unwritable_store_is_named_with_what_would_do(tmp_path, monkeypatch, damage):
    path = tmp_path / "here" / "mlflow.db"
    if damage == "folder":
        path.mkdir(parents=True)
    elif damage == "no-database":
        path.parent.mkdir()
        path.write_text("this is a text, and long enough to be taken for a database header" * 20)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")
    with pytest.raises(ValueError, match="MLflow cannot record runs here") as caught:
        run_store.check()
    assert str(path) in str(caught.value)
    assert "MLFLOW_TRACKING_URI" in str(caught.value)


@pytest.mark.parametrize("kind", ["mysql+pymysql", "postgresql+never"])
def test_a_database_without_its_driver_is_named_without_its_password(monkeypatch, kind):
    monkeypatch.setitem(sys.modules, "pymysql", None)  # as if it were not installed
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{kind}://somebody:secret@host/runs")
    with pytest.raises(ValueError, match="its driver is not installed") as caught:
        run_store.check()
    assert f"{kind}://somebody:***@host/runs" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_store_that_does_not_answer_is_no_mistake(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    run_store.check()


def test_the_store_is_the_workspaces_unless_the_environment_names_another(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert run_store.uri() == "sqlite:///mlflow.db"


def test_the_experiments_page_is_as_this_version_wants_it_and_a_persons_description_stays(store):
    client, experiment = run_store.connect()
    client.set_experiment_tag(experiment, "mlflow.note.content", "ours")
    client.set_experiment_tag(experiment, f"mlflow.sharedViewState.{experiment_page.VIEW}", "an earlier one")
    run_store.experiment()
    tags = client.get_experiment(experiment).tags
    assert tags["mlflow.note.content"] == "ours"
    view = json.loads(tags[f"mlflow.sharedViewState.{experiment_page.VIEW}"])
    assert view["columnOrder"] == list(experiment_page.WIDTHS)
    assert "metrics.`domain_loss_change_high`" in view["selectedColumns"]
    assert experiment_page.missing(tags) == {}


def test_a_database_that_is_away_is_given_up_within_seconds(monkeypatch):
    pytest.importorskip("psycopg")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql+psycopg://nobody:secret@127.0.0.1:9/none")
    start = time.monotonic()
    with pytest.raises(run_store.outages()):
        run_store.connect()
    assert time.monotonic() - start < 20
