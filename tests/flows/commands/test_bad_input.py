"""What was asked for wrongly, or is in the way, is told in one message with what would do; and the doctor finds it."""

import http.server
import json
import threading
from importlib import metadata

import pytest

from flows.commands import doctor
from flows.execution import prefect_server, workspace_lease
from flows.execution.dvc import forecast

pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")  # in dvc itself


def findings(look):
    return [(finding.state, finding.what, finding.fix) for finding in look()]


def test_a_stage_that_is_not_in_dvc_yaml(done):
    with pytest.raises(ValueError, match=r"dvc.yaml has no stage 'sdie'\. Did you mean side"):
        forecast.plan(["sdie"])
    done.edit("dvc.yaml", "  side:", "  aside:")
    state, what, fix = findings(doctor._graph)[-1]
    assert (state, what, fix) == ("limited", "dvc.lock has stages that dvc.yaml has not: side", "ratchet tidy")


def test_a_cycle(done):
    done.edit("dvc.yaml", "deps: [in.txt]\n    params", "deps: [in.txt, last.txt]\n    params")
    with pytest.raises(ValueError, match=r"wait for each other: .*last.*Remove an input of one of them"):
        forecast.plan()
    ((state, what, fix),) = findings(doctor._graph)
    assert state == "blocked"
    assert "wait for each other" in what
    assert "git diff dvc.yaml" in fix


def test_a_workspace_that_a_dead_machine_claimed(done):
    done.path(".ratchet/locks").mkdir(parents=True)
    lock = done.path(".ratchet/locks/flow.lock")
    lock.write_text("77 elsewhere another-boot")
    with (
        pytest.raises(RuntimeError, match=r"another flow \(process 77 of elsewhere\).*rm .*flow\.lock"),
        workspace_lease.acquired(),
    ):
        pass
    ((state, what, fix),) = findings(doctor._owners)
    assert (state, what) == ("blocked", "flow belongs to process 77 of elsewhere")
    assert fix.endswith("rm .ratchet/locks/flow.lock")
    lock.unlink()
    with workspace_lease.acquired():
        assert findings(doctor._owners)[0][1].startswith("flow is running: process ")
        assert findings(doctor._graph) == []


@pytest.fixture
def other_server():
    """What answers as a Prefect server of another version does."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps("2.19.0" if self.path.endswith("version") else True).encode())

        def log_message(self, *_words):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Answer) as answering:
        threading.Thread(target=answering.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{answering.server_port}/api"
        answering.shutdown()


def test_a_prefect_server_of_another_version(done, other_server, monkeypatch):
    monkeypatch.setattr(prefect_server, "configured", lambda: other_server)
    what = f"the Prefect server at {other_server} has version 2.19.0, this environment {metadata.version('prefect')}"
    with pytest.raises(RuntimeError) as refused:
        prefect_server.find_or_start()
    assert str(refused.value).startswith(f"{what}. pip install prefect==2.19.0, or unset PREFECT_API_URL")
    ((state, found, fix),) = findings(doctor._prefect)
    assert (state, found) == ("blocked", what)
    assert fix.startswith("pip install prefect==2.19.0")


def test_a_hosts_file_that_is_named_and_not_there_is_found(workspace, monkeypatch):
    monkeypatch.setenv("RATCHET_HOSTS", "none.yaml")
    assert findings(doctor._hosts) == [
        ("limited", "RATCHET_HOSTS names none.yaml, and there is no such file", "correct it")
    ]


def test_a_tracking_server_that_does_not_answer(done, monkeypatch):
    done.run("flows.commands", "tidy")
    said = done.run("flows.commands", "run", MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert said.returncode == 0, said.stderr
    assert said.stdout.count("MLflow (http://127.0.0.1:9) does not answer; runs wait in .ratchet/spool.") == 1
    assert "Traceback" not in said.stderr
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    ((state, what, fix),) = findings(doctor._store)
    assert state == "limited"
    assert what.startswith("http://127.0.0.1:9: MLflow's store does not answer")
    assert "unset MLFLOW_TRACKING_URI" in fix


@pytest.mark.parametrize("uri", ["file:///runs", "mlruns", "htp://127.0.0.1:9"])
def test_a_tracking_uri_that_names_no_store(done, monkeypatch, uri):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    failed = done.run("flows.commands", "run", MLFLOW_TRACKING_URI=uri)
    assert failed.returncode == 1
    assert failed.stderr.startswith(f"MLFLOW_TRACKING_URI={uri}: ")
    ((state, what, fix),) = findings(doctor._store)
    assert (state, what) == ("blocked", failed.stderr.strip())
    assert "unset MLFLOW_TRACKING_URI" in fix
