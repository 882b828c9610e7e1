"""The fork server: stages run in its children as they do in processes of their own, and nothing of it is left."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tasks.forkserver import client
from tests.runner import SLEEP, WAIT_S, Workspace

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a fork server needs Linux")

# A server without the large libraries, whose stage `fetch` does what a test says.
SERVER = """
import os, sys, time
import tasks.stages.fetch.stage as stage
from tasks.forkserver import server

def main(inputs, outputs, settings, run):
    for path in outputs.values():
        path.mkdir()
        (path / "half").write_text("half")
    run.say(f"started {{os.getpid()}}")
    {body}

stage.main = main
server.MODULES = ()
server.PATIENCE_S = 1.0
sys.exit(server.main(int(sys.argv[1])))
"""


@pytest.fixture
def workspace(tmp_path, empty_store):
    made = Workspace(tmp_path, empty_store)
    made.env["OPENBLAS_NUM_THREADS"] = "1"  # as the server sets it: else numpy, which tests bring, has threads
    yield made
    made.end()


@pytest.fixture
def serve(workspace):
    """Starts a server whose stages do what a body says; `driver` is the process that it ends with."""

    def start(body="", driver=None):
        script = workspace.folder / "server.py"
        script.write_text(SERVER.format(body=body))
        process = workspace.start(sys.executable, str(script), str(driver or os.getpid()))
        wait_for(lambda: answers(workspace.folder) or process.poll() is not None)
        assert process.poll() is None, process.communicate()
        return process

    return start


def wait_for(condition):
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def answers(folder):
    return client.answers(os.path.relpath(folder / ".ratchet/forkserver.sock"))


def stage(workspace):
    return workspace.start(sys.executable, "-m", "tasks.run", "fetch")


def lives(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def began(process):
    """The number of the process that works, once it does."""
    word, pid = process.stdout.readline().split()
    assert word == "started"
    return int(pid)


def parent(pid):
    return int(subprocess.run(["ps", "-o", "ppid=", "-p", str(pid)], capture_output=True, text=True, check=True).stdout)


def test_a_stage_runs_in_a_child_and_what_it_says_and_makes_is_the_clients(workspace, serve):
    server = serve(
        "assert os.getppid() == int(os.environ.get('SERVER', os.getppid())); assert sys.argv[1:] == ['fetch']"
    )
    process = stage(workspace)
    assert began(process) not in (process.pid, server.pid)
    out, err = process.communicate(timeout=WAIT_S)
    assert (process.returncode, out) == (0, ""), err
    assert workspace.outputs() == ["base", "embedder"]
    assert workspace.last_words == ["FINISHED"]


def test_a_pool_of_threads_that_nothing_closed_ends_with_its_stage(workspace, serve):
    serve(
        "from concurrent.futures import ThreadPoolExecutor; sys.pool = ThreadPoolExecutor(1); sys.pool.submit(print, 'worked', flush=True).result()"
    )
    process = stage(workspace)
    began(process)
    out = process.stdout.readline()  # before `communicate`, which passes over what is read already
    _, err = process.communicate(timeout=WAIT_S)
    assert (process.returncode, out) == (0, "worked\n"), err


def test_processes_have_names_that_ps_shows(workspace, serve):
    server = serve(SLEEP)
    process = stage(workspace)
    child = began(process)
    names = [Path(f"/proc/{pid}/comm").read_text().strip() for pid in (server.pid, child)]
    process.kill()
    process.communicate()
    assert names == ["forkserver", "fetch"]


def test_a_failure_is_the_clients_exit_code_and_message(workspace, serve):
    serve("raise ValueError('row 3 is bad')")
    process = stage(workspace)
    out, err = process.communicate(timeout=WAIT_S)
    assert process.returncode == 1
    assert "fetch stopped: row 3 is bad" in out, err


def test_a_child_has_the_environment_of_its_client(workspace, serve):
    serve("run.say(os.environ['RATCHET_FLOW_RUN'])")
    workspace.env["RATCHET_FLOW_RUN"] = "flow 7"
    process = stage(workspace)
    out, err = process.communicate(timeout=WAIT_S)
    assert "flow 7" in out, err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_client_that_is_asked_to_stop_stops_its_stage_which_reads_killed(workspace, serve, number):
    serve(SLEEP)
    process = stage(workspace)
    child = began(process)
    process.send_signal(number)
    process.communicate(timeout=WAIT_S)
    assert process.returncode == 128 + number
    assert not lives(child)
    assert workspace.last_words == ["KILLED"]


def test_a_client_that_is_killed_takes_its_stage_with_it(workspace, serve):
    server = serve(SLEEP)
    process = stage(workspace)
    child = began(process)
    process.kill()
    wait_for(lambda: not lives(child))
    assert server.poll() is None
    process.communicate()


def test_a_client_whose_parent_is_killed_stops_its_stage(workspace, serve):
    serve(SLEEP)
    shell = workspace.start("bash", "-c", f'"{sys.executable}" -m tasks.run fetch; true')
    child = began(shell)
    shell.kill()
    wait_for(lambda: not lives(child))
    shell.communicate(timeout=WAIT_S)


def test_a_server_that_is_killed_takes_its_stages_with_it_and_they_start_anew(workspace, serve):
    server = serve(SLEEP)
    process = stage(workspace)
    child = began(process)
    server.kill()
    out, err = process.communicate(timeout=WAIT_S)
    assert not lives(child)
    assert process.returncode == 0, out + err
    assert "starts again" in err
    assert "models/base/config.json" in workspace.digests()


def test_a_server_ends_with_its_driver_and_leaves_no_socket(workspace, serve):
    driver = subprocess.Popen(["sleep", "600"])
    server = serve(driver=driver.pid)
    driver.kill()
    driver.wait()
    assert server.wait(WAIT_S) == 0
    assert not (workspace.folder / ".ratchet/forkserver.sock").exists()


def test_who_starts_a_server_waits_until_it_serves_or_has_ended(workspace, serve, monkeypatch):
    monkeypatch.chdir(workspace.folder)
    server = serve()
    client.wait_until_ready(server)
    assert client.answers()
    server.terminate()
    server.wait(WAIT_S)
    client.wait_until_ready(server)
    assert not client.answers()


IMPORTS_UNTIL_TOLD = """
import pathlib, time
pathlib.Path("imports").touch()
while not pathlib.Path("imported").exists():
    time.sleep(0.02)
"""
IMPORTING = """
server.MODULES, fork = ("slow_library",), os.fork
os.fork = lambda: (open("forks", "a").write("x"), fork())[1]
"""


@pytest.fixture
def importing(workspace):
    """A server, which counts its forks in a file, that imports until there is a file `imported`."""
    (workspace.folder / "slow_library.py").write_text(IMPORTS_UNTIL_TOLD)
    script = workspace.folder / "server.py"
    script.write_text(SERVER.format(body="").replace("server.MODULES = ()", IMPORTING))
    process = workspace.start(sys.executable, str(script), str(os.getpid()))
    wait_for(lambda: (workspace.folder / "imports").exists())
    return process


def test_a_stage_waits_for_a_server_that_still_imports(workspace, importing):
    process = stage(workspace)
    time.sleep(1)
    assert process.poll() is None
    (workspace.folder / "imported").touch()
    assert began(process) != process.pid
    out, err = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0, out + err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_stage_that_waits_for_a_server_that_ends_runs_in_its_own_process(workspace, importing, number):
    process = stage(workspace)
    time.sleep(1)
    importing.send_signal(number)
    out, err = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0, out + err
    assert "models/base/config.json" in workspace.digests()
    if number == signal.SIGTERM:
        assert not list((workspace.folder / ".ratchet").glob("*.sock"))


@pytest.mark.parametrize("command", ["exec {}", "{}; true"], ids=["itself", "its parent"])
def test_a_stage_that_was_killed_while_the_server_imported_does_not_run(workspace, importing, command):
    process = workspace.start("bash", "-c", command.format(f'"{sys.executable}" -m tasks.run fetch'))
    time.sleep(1)
    process.kill()
    process.wait()  # what it prints to is still open in its request
    (workspace.folder / "imported").touch()
    wait_for(lambda: answers(workspace.folder))
    out, err = stage(workspace).communicate(timeout=WAIT_S)
    assert "started" in out, err
    assert (workspace.folder / "forks").read_text() == "x"


def test_a_server_that_is_asked_to_stop_leaves_no_socket(workspace, serve):
    server = serve()
    assert (workspace.folder / ".ratchet/forkserver.sock").exists()
    server.terminate()
    assert server.wait(WAIT_S) == 128 + signal.SIGTERM
    assert not (workspace.folder / ".ratchet/forkserver.sock").exists()


@pytest.mark.parametrize("changed", ["settings", "environment"])
def test_a_server_that_is_stale_ends_and_the_stage_runs_in_its_own_process(workspace, serve, changed):
    server = serve("raise ValueError('stale')")
    if changed == "settings":
        with (workspace.folder / "params.yaml").open("a") as file:
            file.write("# edited\n")
    else:
        workspace.env["HF_HOME"] = "elsewhere"
    code, out, err = workspace.stage("fetch")
    assert code == 0, out + err
    assert server.wait(WAIT_S) == 0


def test_a_stale_socket_file_hinders_nobody(workspace, serve):
    serve().kill()
    code, out, err = workspace.stage("fetch")
    assert code == 0, out + err
    serve("run.say('anew')")
    process = stage(workspace)
    assert "anew" in process.communicate(timeout=WAIT_S)[0]


def test_a_switch_leaves_every_stage_in_a_process_of_its_own(workspace, serve):
    serve("raise ValueError('asked')")
    workspace.env["RATCHET_FORKSERVER"] = "0"
    assert workspace.stage("fetch")[0] == 0


def test_a_client_that_says_nothing_keeps_nobody_waiting(workspace, serve):
    server = serve("run.say('served')")
    with socket.socket(socket.AF_UNIX) as silent:
        silent.connect(str(workspace.folder / ".ratchet/forkserver.sock"))
        process = stage(workspace)
        out, err = process.communicate(timeout=WAIT_S)
        assert (process.returncode, "served" in out) == (0, True), out + err
    assert server.poll() is None


def test_a_stale_server_lets_a_stage_at_work_end_as_long_as_its_driver_lives(workspace, serve):
    driver = subprocess.Popen(["sleep", "600"])
    server = serve("time.sleep(4)", driver=driver.pid)
    process = stage(workspace)
    began(process)
    workspace.env["HF_HOME"] = "elsewhere"
    workspace.stage("fetch")  # finds the server stale, and the stage at work
    out, err = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0, out + err
    assert server.wait(WAIT_S) == 0
    driver.kill()
    driver.wait()


def test_a_stale_server_whose_driver_goes_ends_its_stages(workspace, serve):
    driver = subprocess.Popen(["sleep", "600"])
    server = serve(SLEEP, driver=driver.pid)
    process = stage(workspace)
    child = began(process)
    workspace.env["HF_HOME"] = "elsewhere"
    workspace.stage("fetch")
    driver.kill()
    driver.wait()
    assert server.wait(WAIT_S) == 0
    assert not lives(child)
    process.communicate(timeout=WAIT_S)


@pytest.mark.parametrize(("stages", "servers"), [(1, 0), (2, 1), (4, 1)])
def test_a_dvc_repro_gets_its_server_with_its_second_stage(workspace, stages, servers, monkeypatch):
    monkeypatch.chdir(workspace.folder)
    monkeypatch.delenv("RATCHET_FORKSERVER", raising=False)
    started = []
    monkeypatch.setattr(client, "start", lambda driver: started.append(driver) or object())
    monkeypatch.setattr(client, "wait_until_ready", lambda server: True)
    ready = [client.start_for_driver() for _ in range(stages)]
    assert ready == [number == 1 for number in range(stages)]  # the second stage alone waits for it
    assert len(started) == servers
    monkeypatch.setattr(client, "_start_time", lambda _: "another process of that number")
    assert not client.start_for_driver()
    assert len(started) == servers
