"""`ratchet open`: a page in a browser, of a server that runs already or of one that ends with the command."""

import signal
import socket
import subprocess
import webbrowser

import pytest

from flows.commands import _browser
from flows.execution import mlflow_pages, ports
from tests.flows.conftest import wait_for


@pytest.fixture
def browser(tmp_path):
    """A browser that writes down what it was to open: the variable that names it, and what it wrote."""
    program, pages = tmp_path / "browser", tmp_path / "opened.txt"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$1" >> {pages}\n')
    program.chmod(0o755)
    return {"BROWSER": f"{program} %s"}, lambda: pages.read_text().split() if pages.is_file() else []


def ended(process, port, workspace):
    """Return what a command printed that Ctrl-C ended, after nothing of it is left."""
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0, workspace.printed()
    wait_for(lambda: ports.port_owner(port) is None)
    return workspace.printed()


def test_mlflow_is_started_opened_found_again_and_ended(done, browser):
    environment, pages = browser
    port = ports.free_port()
    process = done.start("flows.commands", "open", "mlflow", "--port", str(port), **environment)
    try:
        wait_for(pages, done.printed)
        (address,) = pages()
        assert address.startswith(f"http://127.0.0.1:{port}/#/experiments/")
        found = done.ratchet("open", "mlflow", "--port", str(port), **environment)
        assert found.startswith(f"MLflow runs already: {address}")
        assert pages() == [address, address]
    finally:
        said = ended(process, port, done)
    assert f"Runs: {address}. Ctrl-C ends MLflow." in said
    assert said.rstrip().endswith("MLflow has stopped.")


def test_prefect_is_started_opened_found_again_and_ended(done, browser):
    environment, pages = browser
    port = ports.free_port()
    process = done.start("flows.commands", "open", "prefect", "--port", str(port), **environment)
    try:
        wait_for(pages, done.printed)
        address = f"http://127.0.0.1:{port}"
        assert pages() == [address]
        assert f"Prefect runs already: {address}" in done.ratchet("open", "prefect", **environment)
        assert pages() == [address, address]
    finally:
        said = ended(process, port, done)
    assert said.rstrip().endswith("Prefect has stopped.")


@pytest.mark.parametrize("page", ["mlflow", "prefect"])
def test_a_port_that_is_taken_names_who_has_it_and_another(done, page):
    with socket.socket() as listener:
        listener.bind((ports.HOST, 0))
        listener.listen()
        port = listener.getsockname()[1]
        refused = done.run("flows.commands", "open", page, "--port", str(port))
    assert refused.returncode == 1
    assert f"port {port} is taken by process" in refused.stderr
    assert f"ratchet open {page} --port {port + 1}" in refused.stderr


def test_a_store_that_is_a_server_is_opened_as_it_is(done, browser):
    environment, pages = browser
    done.ratchet("open", "mlflow", MLFLOW_TRACKING_URI="http://me:secret@127.0.0.1:9/runs", **environment)
    assert pages() == ["http://127.0.0.1:9/runs"]


def test_without_a_browser_the_address_is_printed(monkeypatch, capsys):
    monkeypatch.setattr(webbrowser, "open", lambda address: False)
    _browser.show("http://127.0.0.1:1")
    assert capsys.readouterr().out == "No browser could be opened here. The address for one: http://127.0.0.1:1\n"


def test_mlflow_that_does_not_answer_is_waited_for_no_longer_than_it_may_take(monkeypatch):
    monkeypatch.setattr(mlflow_pages, "PATIENCE_S", 0.3)
    with subprocess.Popen(["sleep", "60"]) as server:
        with pytest.raises(RuntimeError, match=r"MLflow did not answer at port \d+ within 0 s"):
            mlflow_pages.wait_for(server, ports.free_port())
        server.kill()
