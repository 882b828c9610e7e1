"""Fixtures of runs and of the uploader."""

import pytest

from tasks.io.runs import run_store, spool_uploader

AWAY = {
    "MLFLOW_TRACKING_URI": "http://127.0.0.1:9",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "1",
}


@pytest.fixture
def process():
    """The uploader is a process of its own, as in life; none is left at the end."""
    yield
    for started in spool_uploader._started:
        started.wait(30)


@pytest.fixture
def patient(monkeypatch):
    """The end of a run waits until the uploader has come up, however busy the machine is."""
    monkeypatch.setattr(run_store, "PATIENCE_S", 300.0)


@pytest.fixture
def away(monkeypatch):
    """A store that does not answer, until it is called off."""
    with monkeypatch.context() as patch:
        for name, value in AWAY.items():
            patch.setenv(name, value)
        yield patch


def in_store(store):
    """All traces in the store."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{store}")
    experiment = client.get_experiment_by_name(run_store.NAME)
    return client.search_traces(locations=[experiment.experiment_id])
