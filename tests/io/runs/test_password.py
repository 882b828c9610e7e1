"""A run is recorded by MLflow's own server with its basic authentication, and one that it does not know is told what would do."""

import base64
import json
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from flows.execution import ports
from tasks.io.runs import run_store, spool_uploader, tracking

pytest.importorskip("flask_wtf", reason="MLflow's basic authentication needs it: pip install 'mlflow[auth]'")

PASSWORD = secrets.token_urlsafe(16)
PATIENCE_S = 240.0


@pytest.fixture(scope="module")
def server(tmp_path_factory, empty_store):
    """The address of a server with one user, `admin`."""
    folder = tmp_path_factory.mktemp("mlflow")
    (folder / "mlflow.db").write_bytes(empty_store.read_bytes())
    settings = folder / "auth.ini"
    settings.write_text(
        f"[mlflow]\ndefault_permission = NO_PERMISSIONS\ndatabase_uri = sqlite:///{folder}/auth.db\nadmin_username = admin\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    port = ports.free_port()
    environment = os.environ | {
        "MLFLOW_AUTH_CONFIG_PATH": str(settings), "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(), "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }  # fmt: skip
    command = [sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth", "--host", "127.0.0.1", "--port", str(port),
               "--workers", "1", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]  # fmt: skip
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        address, deadline = f"http://127.0.0.1:{port}", time.monotonic() + PATIENCE_S
        while not _answers(address):
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.2)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=5):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def recorded(monkeypatch, server: str, password: str, user: str = "admin") -> None:
    """End a run and carry it to the server as this user."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", user)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)
    monkeypatch.setattr(spool_uploader, "LINGER_S", 0.0)
    monkeypatch.setattr(spool_uploader, "start", lambda: None)
    recorder = tracking.Recorder("run")
    monkeypatch.setattr(
        spool_uploader, "start", spool_uploader.upload
    )  # in this process, once there is no more to record
    recorder.end("FINISHED")


def test_a_run_reaches_a_server_that_knows_the_user_and_another_password_is_told_in_a_sentence(
    server, tmp_path, monkeypatch, capfd
):
    monkeypatch.chdir(tmp_path)
    recorded(monkeypatch, server, "another one")
    said = "".join(capfd.readouterr())
    assert said.count("MLFLOW_TRACKING_PASSWORD") == 1
    assert "refuses the user admin" in said
    assert "does not answer" not in said
    assert list(run_store.SPOOL.glob("*.jsonl"))

    recorded(monkeypatch, server, PASSWORD)
    assert not list(run_store.SPOOL.glob("*.jsonl")), "the run that waited went with the next one"
    from mlflow import MlflowClient

    client = MlflowClient(server)
    experiment = client.get_experiment_by_name(run_store.NAME)
    assert len(client.search_runs([experiment.experiment_id])) == 2
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or PASSWORD.encode() not in path.read_bytes(), path


def of_admin(server: str, what: str, **values: str) -> None:
    """Have the admin ask the server for something."""
    key = base64.b64encode(f"admin:{PASSWORD}".encode()).decode()
    asked = urllib.request.Request(
        f"{server}/api/{what}",
        json.dumps(values).encode(),
        {"Content-Type": "application/json", "Authorization": f"Basic {key}"},
    )
    urllib.request.urlopen(asked, timeout=30).close()


def test_a_user_without_rights_is_told_who_grants_them_and_the_run_that_waited_arrives(
    server, tmp_path, monkeypatch, capfd
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RATCHET_NAME", "shared")
    recorded(monkeypatch, server, PASSWORD)  # the experiment is the admin's
    from mlflow import MlflowClient

    (experiment,) = MlflowClient(server).search_experiments(filter_string="name = 'shared'")
    before = len(MlflowClient(server).search_runs([experiment.experiment_id]))
    word = secrets.token_urlsafe(16)
    of_admin(server, "2.0/mlflow/users/create", username="ann", password=word)
    capfd.readouterr()
    recorded(monkeypatch, server, word, "ann")
    said = "".join(capfd.readouterr())
    assert said.count("does not let ann write to experiment shared; runs wait in") == 1
    assert "Whoever made the experiment grants ann EDIT" in said
    assert len(list(run_store.SPOOL.glob("*.jsonl"))) == 1

    granted = {"resource_type": "experiment", "resource_id": experiment.experiment_id, "permission": "EDIT"}
    of_admin(server, "3.0/mlflow/users/permissions/grant", username="ann", **granted)
    recorded(monkeypatch, server, word, "ann")
    assert not list(run_store.SPOOL.glob("*.jsonl"))
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
    assert len(MlflowClient(server).search_runs([experiment.experiment_id])) == before + 2
