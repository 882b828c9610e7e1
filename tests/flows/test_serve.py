"""`ratchet up`, and a deployment run, which leaves what any other driver leaves."""

import contextlib
import json
import os
import shutil
import signal
import sys
import threading
import urllib.request
from types import SimpleNamespace
from uuid import uuid4

import psutil
import pytest
from httpx import ConnectError
from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings

from flows import automations, deployments, monitor, serve
from flows.automations import BEATS
from flows.execution import ports, prefect_server, supervisor
from tasks.io.system import locks
from tests.flows.conftest import Workspace, processes, wait_for
from tests.flows.registry.test_promotion import Nights
from tests.test_monitor import THEIRS, prompts, send, training_data


@pytest.fixture(scope="module")
def orphaned(template, tmp_path_factory):
    """A workspace in which a run was at work when `ratchet up` was killed, and in which it serves again."""
    folder = tmp_path_factory.mktemp("orphaned") / "workspace"
    shutil.copytree(template, folder)
    workspace = Workspace(folder)
    mark = f"sleep 900.{os.getpid()}"
    workspace.edit("dvc.yaml", "cmd: cp in.txt one.txt", f"cmd: {mark}; cp in.txt one.txt")
    first = served(workspace)
    workspace.run("prefect", "deployment", "run", "pipeline/workstation")
    wait_for(lambda: processes(mark), workspace.printed)
    wait_for(lambda: heartbeats(workspace), workspace.printed)
    workspace.offered = counted(workspace)
    first.kill()
    first.wait()
    wait_for(lambda: not processes(mark) and not prefect_server.answers(workspace.api), workspace.printed)

    second = served(workspace)
    yield workspace
    second.send_signal(signal.SIGINT)
    assert second.wait(30) == 0


def test_a_second_start_makes_nothing_twice(orphaned):
    assert counted(orphaned) == orphaned.offered == {"deployments": 5, "automations": 2}


def test_a_deployment_run_leaves_the_lock_of_a_plain_repro(up, finished):
    said = up.run("prefect", "deployment", "run", "pipeline/workstation", "--watch").stdout  # nothing names the server
    assert "finished successfully" in said, said
    assert "prefect.artifact.created" in said
    assert up.lock == (finished / "dvc.lock").read_bytes()
    assert list(up.home.iterdir()) == []
    # Not in what `--watch` prints: it shows what is said once it listens.
    wait_for(lambda: "one: it has not run yet" in logged(up), lambda: logged(up))


def test_what_it_says_can_be_run_is_there_when_it_says_so(up):
    assert up.offered_at_once["name"] == "workstation"


def test_it_listens_to_this_machine_alone(up):
    whole = [psutil.Process(pid) for pid in (up.pid, *supervisor.descendants(up.pid))]
    listening = {at.laddr.ip for process in whole for at in process.net_connections("inet") if at.status == "LISTEN"}
    assert listening == {"127.0.0.1"}


def test_nights_begin_at_their_time_and_by_drift_and_runs_of_the_workspace_one_after_the_other(done, monkeypatch):
    monkeypatch.setenv("RATCHET_NIGHTLY", "30 2 * * 1")
    monkeypatch.setenv("RATCHET_TIMEZONE", "Europe/Berlin")
    found = {f"{one.flow_name}/{one.name}": one for one in deployments.all_deployments()}
    (at,) = found["retrain/nightly"].schedules
    assert (at.schedule.cron, at.schedule.timezone) == ("30 2 * * 1", "Europe/Berlin")
    (trigger,) = found["retrain/on-drift"].triggers
    assert trigger.expect == {"ratchet.drift"}
    assert not found["pipeline/workstation"].schedules
    assert not found["promote/manual"].schedules


def test_a_second_one_is_refused_with_the_number_of_the_first(up):
    refused = up.run("flows.commands", "up")
    assert refused.returncode == 1
    assert (
        f"another `ratchet up` (process {up.path('.ratchet/locks/up.lock').read_text().split()[0]})" in refused.stderr
    )


@pytest.mark.parametrize(
    "ask",
    [lambda served, url: serve._registered(served, automations.Notifications((), ()), url), serve._serving],
    ids=["registered", "serving"],
)
def test_a_server_that_ends_while_deployments_are_registered_is_asked_again(monkeypatch, ask):
    answers, asked = iter([False, True]), []

    def refuse_once(*_, **__):
        asked.append(1)
        if len(asked) == 1:
            raise ConnectError("All connection attempts failed")

    monkeypatch.setattr(automations, "apply_all", refuse_once)
    monkeypatch.setattr(serve, "serve", refuse_once)
    monkeypatch.setattr(prefect_server, "answers", lambda url: next(answers))
    ask([], "http://127.0.0.1:9/api")
    assert len(asked) == 2
    assert next(answers, None) is None


def test_a_run_that_waits_for_a_person_leaves_room_for_others(monkeypatch):
    options = {}
    monkeypatch.setattr(serve, "serve", lambda *_, **given: options.update(given))
    serve._serving([], "http://127.0.0.1:9/api")
    assert options["limit"] > 2, "one waits, one works, and one looks at what came in meanwhile"


def test_a_busy_port_is_told_with_who_has_it(workspace, prefect):
    port = prefect.split(":")[2].split("/")[0]
    refused = workspace.run("flows.commands", "up", PREFECT_SERVER_API_PORT=port)
    assert refused.returncode == 1
    assert f"port {port} is taken by process" in refused.stderr
    assert f"PREFECT_SERVER_API_PORT={int(port) + 1} ratchet up" in refused.stderr


def test_free_ports_have_no_listener_and_are_distinct():
    found = ports.free_ports(500)  # of 28,000: were each let go before the next, some would come twice
    assert len(set(found)) == 500
    assert {ports.port_owner(port) for port in found[:3]} == {None}


def test_drift_starts_a_retraining(up):
    with up.kept("params.yaml"):  # other tests run what is in it
        with contextlib.chdir(up.folder):  # a candidate's files are hashed where they stand
            Nights(up.folder).night("better", 1.9)
        training_data(up.folder)
        with up.path("params.yaml").open("a") as config:
            config.write("monitor: {methods: [mmd]}\n")
        send(up.folder, prompts(40, THEIRS, 2))
        said = up.run("prefect", "deployment", "run", "monitor/incoming", "-p", 'files=["in.jsonl"]', "--watch").stdout
        assert "finished successfully in 'Drift'" in said, said
        wait_for(lambda: begun(up, "retrain"), lambda: said, 180)
        wait_for(
            lambda: begun(up, "retrain")[0]["state"]["type"] == "COMPLETED", lambda: str(runs_of(up, "retrain")), 180
        )
        (night,) = begun(up, "retrain")
        assert night["state"]["name"] == "Promoted"
        assert "mmd of in.jsonl differ from what was trained on" in night["parameters"]["drift"]
        assert len(up.path("data/promotions.jsonl").read_text().splitlines()) == 1


def test_the_pages_have_the_plan_the_progress_and_what_became_of_each_stage(up):
    up.run("prefect", "deployment", "run", "pipeline/workstation", "--watch")
    latest = {row["key"]: row for row in asked(up, "artifacts/latest/filter", {})}
    assert {f"pipeline-{key}" for key in ("plan", "progress", "stages", "graph", "verdict", "mlflow")} <= latest.keys()
    assert float(latest["pipeline-progress"]["data"]) == 100
    (one, *others) = json.loads(latest["pipeline-stages"]["data"])
    assert [row["stage"] for row in (one, *others)] == ["one", "two", "side", "last"]
    assert one["became"] in ("ran", "restored", "unchanged")
    assert one.keys() == {"stage", "planned", "became", "seconds", "why", "MLflow"}
    assert "s0 --> s1" in latest["pipeline-graph"]["data"]
    assert "/runs/" in latest["pipeline-mlflow"]["data"]
    assert latest["pipeline-verdict"]["data"].startswith(("ran (", "unchanged (", "restored ("))
    assert {run["name"] for run in begun(up, "pipeline")} == {"edited · all stages"}


def test_a_line_that_is_no_schedule_is_refused_before_anything_starts(workspace):
    refused = workspace.run("flows.commands", "up", RATCHET_NIGHTLY="every night")
    assert refused.returncode == 1
    assert "RATCHET_NIGHTLY='every night' in RATCHET_TIMEZONE='UTC' is no schedule" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_dead_run_is_reported(orphaned):  # the last one: what takes its time is to hear nothing of it
    def state():
        return runs_of(orphaned, "pipeline")[0]["state"]

    wait_for(lambda: state()["type"] == "CRASHED", orphaned.printed, 60 + 30 * BEATS)
    assert "no heartbeat" in state()["message"]


def begun(workspace, flow):
    """The runs of a flow that a deployment began, without those that a schedule has ahead.

    Other tests tell this server of runs that nothing ran.
    """
    return [run for run in runs_of(workspace, flow) if run["start_time"] and run["deployment_id"]]


def served(workspace):
    """`ratchet up`, once it serves."""
    port = str(ports.free_port())
    workspace.api = f"http://127.0.0.1:{port}/api"
    process = workspace.start("flows.commands", "up", PREFECT_SERVER_API_PORT=port)
    wait_for(lambda: "prefect deployment run" in workspace.printed(), workspace.printed)
    return process


def asked(workspace, path, question):
    """What Prefect's API answers to a question."""
    request = urllib.request.Request(
        f"{workspace.api}/{path}", json.dumps(question).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def runs_of(workspace, flow):
    return asked(workspace, "flow_runs/filter", {"flows": {"name": {"any_": [flow]}}})


def logged(workspace):
    """All lines that flows have said, as Prefect keeps them."""
    return "\n".join(line["message"] for line in asked(workspace, "logs/filter", {}))


def counted(workspace):
    return {name: asked(workspace, f"{name}/count", {}) for name in ("deployments", "automations")}


def heartbeats(workspace):
    named = {"filter": {"event": {"name": ["prefect.flow-run.heartbeat"]}}}
    return asked(workspace, "events/filter", named)["total"]


def test_the_address_that_a_killed_server_left_behind_is_nobodys(tmp_path, monkeypatch):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    url = "http://127.0.0.1:4200/api"  # where another workspace's server may answer by now
    with temporary_settings({PREFECT_API_URL: url}):
        with prefect_server.announced(url), locks.exclusive(tmp_path / ".ratchet/locks/up.lock"):
            assert prefect_server.configured() == url
        assert prefect_server.configured() == url  # a person's own profile
        prefect_server.ANNOUNCED.write_text(url)
        assert prefect_server.configured() is None
        assert not prefect_server.ANNOUNCED.exists()
        prefect_server.ANNOUNCED.write_text(url)
        monkeypatch.setenv("PREFECT_API_URL", url)
        assert prefect_server.configured() == url


@pytest.mark.parametrize("there", [True, False])
def test_an_event_that_the_server_does_not_have_was_not_heard(up, monkeypatch, there):
    monkeypatch.setattr(monitor, "PATIENCE_S", 1.0)
    with temporary_settings({PREFECT_API_URL: up.api if there else f"http://127.0.0.1:{ports.free_port()}/api"}):
        assert not monitor._has_arrived(uuid4())


@pytest.mark.parametrize("ui", [True, False])
def test_a_server_without_pages_looks_after_no_deployments(tmp_path, monkeypatch, ui):
    def start(_command, env, **_options):
        given.update(env)
        raise InterruptedError

    given = {}
    monkeypatch.setattr(supervisor, "start", start)
    with pytest.raises(InterruptedError):
        prefect_server.start(ports.free_port(), ui=ui)
    services = get_current_settings().server.services
    for variable in prefect_server.DEPLOYMENTS_ALONE:
        name = variable.removeprefix("PREFECT_SERVER_SERVICES_").removesuffix("_ENABLED").lower()
        assert getattr(services, name).enabled, "Prefect has it, and runs it unless told not to"
        assert given.get(variable) == (None if ui else "false")


def test_a_server_that_cannot_be_started_again_ends_what_rests_on_it(tmp_path, monkeypatch, capsys):
    ended, first = threading.Event(), SimpleNamespace(wait=lambda: -9, terminate=lambda: None)
    starts = []

    def start(port, *, ui):
        starts.append(port)
        if len(starts) > 1:
            raise RuntimeError("the Prefect server did not start.")
        return first, "http://127.0.0.1:1/api"

    monkeypatch.setattr(prefect_server, "start", start)
    monkeypatch.setattr(prefect_server.time, "sleep", lambda _seconds: None)
    monkeypatch.setattr(
        prefect_server.os, "kill", lambda pid, number: ended.set() if number == signal.SIGTERM else None
    )
    prefect_server.keep_running(ports.free_port(), ui=False)
    assert ended.wait(30)
    assert len(starts) == 1 + prefect_server.RESTARTS
    assert "did not start. Flows cannot run without a server, so this process ends." in capsys.readouterr().out


def test_ending_a_server_that_is_just_being_started_again_ends_the_new_one(tmp_path, monkeypatch):
    """Nobody is left waiting for it either."""
    asleep = [sys.executable, "-c", "import time; time.sleep(600)"]
    made, begun, go = [], threading.Event(), threading.Event()

    def start(port, *, ui):
        if made:
            begun.set()
            assert go.wait(30)
        made.append(supervisor.start(asleep))
        return made[-1], "http://127.0.0.1:1/api"

    monkeypatch.setattr(prefect_server, "start", start)
    _, end = prefect_server.keep_running(ports.free_port(), ui=False)
    supervisor.stop(made)
    assert begun.wait(30)
    ending = threading.Thread(target=end)
    ending.start()
    go.set()
    ending.join(30)
    assert not ending.is_alive()
    assert [process.returncode is not None for process in made] == [True, True]
