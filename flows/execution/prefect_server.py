"""Find or start the Prefect server of a flow: the one that `ratchet up` runs, or a private one that ends with the flow."""

import atexit
import base64
import http
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from typing import Any

from flows.execution import ports, supervisor, workspace, workspace_lease
from tasks.io.system import files, locks, logs, progress

ANNOUNCED = workspace.SCRATCH / "announced"
"""Holds the address while it stands in the profile. It stays behind if the server was killed."""
PROGRAM = "flows.execution.prefect_program"
"""Prefect's command line as we start it, by which a server of ours is known among processes: `python -m PROGRAM server start …`."""
TAG = "ratchet"
"""The tag of every flow run of ours, by which they are told from those of other teams on one server."""
_private: set[str] = set()
"""The addresses of servers that end with this process."""
RESTARTS = 5
"""Attempts to restart a server that has ended."""
DEPLOYMENTS_ALONE = {
    f"PREFECT_SERVER_SERVICES_{name}_ENABLED": "false"
    for name in (
        "CANCELLATION_CLEANUP", "CLEANUP_RECONCILER", "FOREMAN", "LATE_RUNS", "PAUSE_EXPIRATIONS", "REPOSSESSOR", "SCHEDULER",
    )
}  # fmt: skip
"""Services that a server without pages, which serves flows and no deployment, does without: every few seconds they look after schedules,
workers and pauses. Automations stay, by which people are told what came of a night.
"""
PATIENCE_S = 300.0
"""Seconds that a server may take until its first answer. It takes 3 s on two free cores, and minutes where twenty processes share them."""


def answers(url: str) -> bool:
    """Return True if a Prefect server answers at this API address."""
    return get(url, "health") is not None


def get(url: str, path: str) -> Any:
    """Return what a Prefect API answers at `path`; None if nothing or something else listens there, or if it refuses us."""
    try:
        return _ask(url, path)
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError):
        return None


def obstacle(url: str) -> tuple[str, str] | None:
    """Return the problem and its fix if a server that answers cannot be used: it refuses our password, or has another version."""
    if _is_refused(url):
        fix = "export PREFECT_API_AUTH_STRING=USER:PASSWORD, as its owner says, or unset PREFECT_API_URL: the run then has a server of its own"
        return f"the Prefect server at {url} requires a password, and PREFECT_API_AUTH_STRING does not have it", fix
    client, server = metadata.version("prefect"), get(url, "admin/version")
    if server is None or str(server).split(".")[:2] == client.split(".")[:2]:
        return None
    fix = f"pip install prefect=={server}, or unset PREFECT_API_URL: the run then has a server of its own"
    if url == _announced():
        fix = "Prefect was changed while `ratchet up` runs: end that, and start it again"
    return f"the Prefect server at {url} has version {server}, this environment {client}", fix


def configured() -> str | None:
    """Return the API address in Prefect's settings: from the environment, or from the profile that `ratchet up` writes.

    An address that a killed `ratchet up` left in the profile is removed: another workspace's server may answer there now.
    """
    from prefect.settings import PREFECT_API_URL, update_current_profile

    url = PREFECT_API_URL.value()
    if os.environ.get("PREFECT_API_URL") or url != _announced():
        return url
    if locks.held(workspace_lease.LOCKS / f"{workspace_lease.SERVER}.lock"):
        return url
    update_current_profile({PREFECT_API_URL: None})
    ANNOUNCED.unlink(missing_ok=True)
    return None


def _is_refused(url: str) -> bool:
    try:
        _ask(url, "admin/version")
    except urllib.error.HTTPError as error:
        return error.code == http.HTTPStatus.UNAUTHORIZED
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError):
        pass  # a server that does not answer is reported elsewhere
    return False


def _ask(url: str, path: str) -> Any:
    """Return what a server answers to a request with the password of Prefect's settings, if there is one."""
    from prefect.settings import get_current_settings

    request = urllib.request.Request(f"{url}/{path}")
    if password := get_current_settings().api.auth_string:
        encoded = base64.b64encode(password.get_secret_value().encode()).decode()
        request.add_header("Authorization", f"Basic {encoded}")
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def pages(url: str) -> str:
    """Return the address of a server's pages from that of its API."""
    return url.removesuffix("/api")


def _announced() -> str | None:
    """Return the address that a `ratchet up` of this workspace wrote into the profile and has not removed."""
    try:
        return ANNOUNCED.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


@contextmanager
def announced(url: str) -> Iterator[None]:
    """Write a server's address to the workspace's Prefect profile, where plain `prefect` finds it, and remove it at the end."""
    from prefect.settings import PREFECT_API_URL, update_current_profile

    files.write_atomically(ANNOUNCED, url)
    update_current_profile({PREFECT_API_URL: url})
    try:
        yield
    finally:
        update_current_profile({PREFECT_API_URL: None})
        ANNOUNCED.unlink(missing_ok=True)


def find_or_start() -> str:
    """Return the API address of a server: the configured one if it answers, otherwise a private one that ends with this process.

    Raises RuntimeError if the configured one has another version or refuses us.
    """
    url = configured()
    if url and answers(url):
        if problem := obstacle(url):
            raise RuntimeError(f"{problem[0]}. {problem[1]}")
        return url
    if url and os.environ.get("PREFECT_API_URL"):
        progress.say(f"No Prefect server answers at PREFECT_API_URL={url}; this run starts its own.")
    url, end = keep_running(ports.free_port(), ui=False)
    _private.add(url)
    # Prefect sends its last logs and events when the interpreter ends, after every `with` block of ours has closed.
    atexit.register(end)
    return url


def has_own_database() -> bool:
    """Return True if our servers keep their records in a file of the workspace, not in a database that others may also use."""
    from prefect.settings import get_current_settings

    address = get_current_settings().server.database.connection_url
    return address is None or address.get_secret_value().startswith("sqlite")


def is_private() -> bool:
    """Return True if the server in use ends with this process, so that nobody else receives its events."""
    return configured() in _private


@contextmanager
def connected() -> Iterator[str]:
    """Let the flows inside run on a server, and yield its API address. Raises RuntimeError if it stops answering for minutes."""
    from httpx import TransportError
    from prefect import tags
    from prefect.settings import PREFECT_API_URL, temporary_settings

    url = find_or_start()
    try:
        with temporary_settings({PREFECT_API_URL: url}), tags(TAG):
            yield url
    except TransportError as error:  # raised after Prefect has repeated the request for minutes
        raise RuntimeError(
            f"Prefect's server at {url} does not answer any more ({error}). What the stages have made is kept: start the server "
            "again, or unset PREFECT_API_URL, so that the run starts its own; then run this again."
        ) from error


def keep_running(port: int, *, ui: bool) -> tuple[str, Callable[[], None]]:
    """Start a Prefect server and restart it if it ends early, for example killed for lack of memory. Returns its API address and a function
    to end it.

    Flows that call the server wait for it, and its database keeps their state. If it cannot be restarted, this process gets SIGTERM:
    otherwise `ratchet up` would go on without a server, and no scheduled flow would begin.
    """
    process, url = start(port, ui=ui)
    current, ended = [process], threading.Event()

    def watch() -> None:
        while not ended.is_set():
            code = current[0].wait()
            if ended.is_set():
                return
            progress.say(f"Prefect's server has ended (exit code {code}); it is started again.")
            try:
                current[0] = _restart(port, ui, ended)
            except RuntimeError as error:
                progress.say(f"{error} Flows cannot run without a server, so this process ends.")
                os.kill(os.getpid(), signal.SIGTERM)
                return

    watcher = threading.Thread(target=watch, name="keep-server", daemon=True)
    watcher.start()

    def end() -> None:
        ended.set()
        while watcher.is_alive():
            supervisor.stop(current)  # in the next round this stops a server that was just being started
            watcher.join(supervisor.PACE_S)
        supervisor.stop(current)

    return url, end


def _restart(port: int, ui: bool, ended: threading.Event) -> "subprocess.Popen[bytes]":
    """Start a server on a port that another server has just left. Raises RuntimeError if it does not start."""
    while not ports.is_free(port) and not ended.is_set():  # the old server may still be ending
        time.sleep(supervisor.PACE_S)
    for _ in range(RESTARTS - 1):
        try:
            return start(port, ui=ui)[0]
        except RuntimeError:  # a port that was just released may be refused for a moment
            time.sleep(1)
    return start(port, ui=ui)[0]


def start(port: int, *, ui: bool) -> tuple[subprocess.Popen[bytes], str]:
    """Start a Prefect server on this port of this machine; return its process and its API address. It cannot outlive this process.

    A server without `ui` only serves flows: it starts no run of a deployment.
    """
    log = workspace.LOGS / "prefect.log"
    command = [sys.executable, "-m", PROGRAM, "server", "start", "--host", ports.HOST, "--port", str(port)]
    env = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    env |= {} if ui else DEPLOYMENTS_ALONE
    env |= {"PREFECT_SERVER_API_PORT": str(port)} | _own_origins(port)  # its pages call the API at this port
    with logs.append(log) as file:  # appended, as the log says why the server before ended
        process = supervisor.start(
            command + ([] if ui else ["--no-ui"]), env=env, stdin=subprocess.DEVNULL, stdout=file, stderr=file
        )
    url = f"http://{ports.HOST}:{port}/api"
    deadline = time.monotonic() + PATIENCE_S
    while not answers(url):
        if process.poll() is not None:
            raise RuntimeError(f"the Prefect server did not start. {log} says why.")
        if time.monotonic() > deadline:
            supervisor.stop([process])
            raise RuntimeError(
                f"the Prefect server did not answer within {PATIENCE_S:.0f} s. If other work keeps this machine busy, run it "
                f"again later; `dvc repro` needs no server. Its output is in {log}."
            )
        time.sleep(0.1)
    return process, url


def _own_origins(port: int) -> dict[str, str]:
    """Return the setting with which a server answers only its own pages, instead of all; nothing if its owner has set it."""
    from prefect.settings import get_current_settings

    if "cors_allowed_origins" in get_current_settings().server.api.model_fields_set:
        return {}
    return {"PREFECT_SERVER_CORS_ALLOWED_ORIGINS": ",".join(f"http://{host}:{port}" for host in sorted(ports.HOSTS))}
