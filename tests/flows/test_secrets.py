"""Secrets of a user's environment stand nowhere in what is written or printed: each is planted, and searched for in every byte."""

import base64
import shutil
import signal
import subprocess

import pytest

from flows.execution import ports, prefect_server
from flows.execution.dvc import cache
from tasks.core.text.writing import Server
from tests.flows.conftest import Workspace, wait_for
from tests.planted import DOTENV, MLFLOW, NOTIFY, PREFECT, PREFECT_DATABASE, TOKENS, leaks


def test_a_planted_secret_is_found_where_one_stands(tmp_path):
    (tmp_path / "7").write_bytes(b"\0a planted-hf-token-3301\0")
    (tmp_path / "8").write_bytes(base64.b64encode(PREFECT.encode()))
    (tmp_path / "9").write_bytes(b"nothing")
    assert leaks([tmp_path], ["planted-mail-1158"]) == [
        ("planted-hf-token-3301", str(tmp_path / "7")),
        ("planted-prefect-2245", str(tmp_path / "8")),
        ("planted-mail-1158", "printed"),
    ]


@pytest.fixture(scope="module")
def served(template, tmp_path_factory):
    """A workspace whose server wants a password and tells people, and in which a run failed while MLflow's server was away."""
    folder = tmp_path_factory.mktemp("secrets") / "workspace"
    shutil.copytree(template, folder)
    workspace = Workspace(folder)
    secrets = TOKENS | {
        "PREFECT_SERVER_API_PORT": str(ports.free_port()),
        "PREFECT_SERVER_API_AUTH_STRING": PREFECT,
        "RATCHET_NOTIFY": " ".join(NOTIFY),
        "MLFLOW_TRACKING_URI": MLFLOW,
    }
    workspace.edit("dvc.yaml", "cmd: cp in.txt side.txt", "cmd: cp in.txt side.txt; echo no >&2; exit 3")
    up = workspace.start("flows.commands", "up", **secrets)
    wait_for(lambda: "prefect deployment run" in workspace.printed() or up.poll() is not None, workspace.printed, 300)
    wrong = {"PREFECT_API_AUTH_STRING": "someone:else"}
    workspace.refused = workspace.run("flows.commands", "run", **secrets | wrong)
    told = [workspace.run("flows.commands", command, **secrets) for command in ("run", "doctor")]
    listed = subprocess.run(["ps", "-ewwo", "args"], capture_output=True, text=True, check=True).stdout
    up.send_signal(signal.SIGINT)
    assert up.wait(120) == 0
    workspace.secrets = secrets
    workspace.said = [done.stdout + done.stderr for done in told] + [workspace.printed(), listed]
    return workspace


def test_no_secret_stands_in_what_a_run_writes_or_prints(served):
    assert "stage side failed" in served.said[0]
    assert "MLflow (http://***@127.0.0.1:9) does not answer" in served.said[0]
    assert "to slack-webhook, custom-webhook, slack-webhook" in served.said[2]
    assert leaks([served.folder, served.home], served.said) == []


def test_another_password_than_that_of_the_server_is_one_message(served):
    assert served.refused.returncode == 1
    assert served.refused.stderr.count("\n") == 1
    assert (
        "requires a password, and PREFECT_API_AUTH_STRING does not have it. export PREFECT_API_AUTH_STRING="
        in served.refused.stderr
    )


def test_no_secret_stands_in_a_backup(served):
    served.path(".env").write_text(DOTENV)
    served.ratchet("backup", "../backup.zip", **served.secrets)
    backup = served.folder.parent / "backup.zip"
    assert b".ratchet/prefect/prefect.db" in backup.read_bytes()
    assert leaks([backup]) == []
    served.path(".env").unlink()


def test_the_password_of_a_database_is_not_told_where_it_does_not_answer(workspace, monkeypatch):
    monkeypatch.setenv("PREFECT_SERVER_DATABASE_CONNECTION_URL", PREFECT_DATABASE)
    with pytest.raises(RuntimeError, match="the Prefect server did not start") as told:
        prefect_server.start(ports.free_port(), ui=False)
    assert workspace.path(".ratchet/logs/prefect.log").stat().st_size
    assert leaks([workspace.folder], [str(told.value)]) == []


def test_settings_and_remotes_take_no_password(workspace):
    with pytest.raises(
        ValueError, match=r"https://\*\*\*@host/store: the address contains a user or a password.*--local"
    ):
        cache.set_remote("https://me:planted@host/store")
    assert "planted" not in workspace.path(".dvc/config").read_text()
    with pytest.raises(ValueError, match="it holds a password: leave it out"):
        Server(url="http://me:planted@127.0.0.1:8000/v1", model="m")
