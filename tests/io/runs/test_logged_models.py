"""Models as MLflow's entities: one for the same files, with their figures, linked to run and registered version."""

import json
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from tasks.io.runs import logged_models, registry, run_store, spool_uploader, tracking

FIGURES = {"domain_loss": 0.8, "domain_loss_low": 0.7}


@pytest.fixture(autouse=True)
def _no_uploader(monkeypatch):
    monkeypatch.setattr(spool_uploader, "start", lambda: None)


def version(number, candidate, decision):
    """A version of which no files are here."""
    tags = {"verdict": decision.partition(":")[0]}
    return registry.Version(number, candidate, decision, tags, Path("models/versions") / str(number))


def measured(candidate):
    """The MLflow run of a flow that measured a candidate."""
    recorder = tracking.Recorder("flow")
    recorder.model("r0", candidate, FIGURES, {"data/ingested": "f" * 32 + ".dir"})
    recorder.end("FINISHED")
    spool_uploader.deliver()
    client, experiment = run_store.connect()
    return run_store.find(client, experiment, recorder.id)


def test_the_same_files_are_one_model_with_its_figures_and_the_run_that_measured_it(store):
    first, again, other = measured("c1"), measured("c1"), measured("c2")
    client, experiment = run_store.connect()
    models = {model.tags["ratchet.candidate"]: model for model in client.search_logged_models([experiment])}
    assert {name: model.source_run_id for name, model in models.items()} == {"c1": first, "c2": other}
    assert {metric.key: metric.value for metric in models["c2"].metrics} == FIGURES
    assert {(metric.dataset_name, metric.dataset_digest) for metric in models["c2"].metrics} == {
        ("data/ingested", "f" * 32 + ".dir")
    }
    assert {str(model.status) for model in models.values()} == {"READY"}
    outputs = client.get_run(again).outputs.model_outputs
    assert [output.model_id for output in outputs] == [models["c1"].model_id]
    assert client.get_run(again).data.metrics == FIGURES
    assert len(client.get_metric_history(again, "domain_loss")) == 1


def test_a_registered_version_and_the_model_that_was_measured_link_to_each_other(store):
    run = measured("c1")
    versions = [version(number, candidate, "promoted: better") for number, candidate in ((1, "c1"), (2, "elsewhere"))]
    assert registry.mirror(versions, {"champion": 1})
    client, experiment = run_store.connect()
    known, unknown = (client.get_model_version(registry.NAME, number) for number in ("1", "2"))
    assert known.run_id == run
    (model,) = client.search_logged_models([experiment])
    assert known.description.startswith("promoted: better\n\n[")
    assert f"#/experiments/{experiment}/models/{model.model_id}" in known.description
    assert json.loads(model.tags["mlflow.modelVersions"]) == [{"name": registry.NAME, "version": "1"}]
    assert not unknown.run_id
    assert unknown.description == "promoted: better"


def test_another_decision_on_a_version_is_written_with_the_same_links_and_nothing_else_is(store):
    measured("c1")
    assert registry.mirror([version(1, "c1", "refused: worse")], {})
    assert registry.mirror([version(1, "c1", "promoted: better")], {"champion": 1})
    client, _ = run_store.connect()
    (mirrored,) = client.search_model_versions(f"name = '{registry.NAME}'")
    assert mirrored.description.startswith("promoted: better\n\n[Figures of this model](#/experiments/")
    assert mirrored.tags["verdict"] == "promoted"
    before = mirrored.last_updated_timestamp
    assert registry.mirror([version(1, "c1", "promoted: better")], {"champion": 1})
    assert client.get_model_version(registry.NAME, "1").last_updated_timestamp == before


@pytest.mark.parametrize("code", ["ENDPOINT_NOT_FOUND", "INTERNAL_ERROR"])
def test_a_server_without_such_entities_is_no_outage_and_another_error_is_one(code):
    class Client:
        def search_logged_models(self, *_, **__):
            error = MlflowException("no")
            error.error_code = code
            raise error

    event = {"name": "r0", "candidate": "c1", "metrics": FIGURES, "time": 0}
    if code == "ENDPOINT_NOT_FOUND":
        logged_models.record(Client(), "1", "run", event)
        assert logged_models.measured(Client(), "1", "c1") is None
        return
    with pytest.raises(MlflowException):
        logged_models.record(Client(), "1", "run", event)
    with pytest.raises(MlflowException):
        logged_models.measured(Client(), "1", "c1")
