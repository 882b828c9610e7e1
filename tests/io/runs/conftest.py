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
    """Let the uploader run in its own process, as for users, and stop it after the test."""
    yield
    for started in spool_uploader._started:
        started.wait(30)


@pytest.fixture
def patient(monkeypatch):
    """Let the end of a run wait until the uploader has started, however busy the machine is."""
    monkeypatch.setattr(run_store, "PATIENCE_S", 300.0)


@pytest.fixture
def away(monkeypatch):
    """Let the store not answer, until the test calls the function."""
    with monkeypatch.context() as patch:
        for name, value in AWAY.items():
            patch.setenv(name, value)
        yield patch


def in_store(store):
    """Return all traces in the store."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{store}")
    experiment = client.get_experiment_by_name(run_store.NAME)
    return client.search_traces(locations=[experiment.experiment_id])
