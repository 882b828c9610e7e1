"""MLflow's store of runs: its address, a check that it can be used, and a client."""

import contextlib
import fcntl
import logging
import os
import re
import socket
import sqlite3
from pathlib import Path
from typing import Any

from tasks.core import environment
from tasks.core.imports import lasting
from tasks.core.text.visible import without_passwords
from tasks.io.runs import experiment_page
from tasks.io.system import git

SPOOL = Path(".ratchet/spool")
"""The run spool: events that wait to be sent to the store (`tasks.io.runs.tracking`)."""
NAME = "ratchet"
"""The name of the experiment and of the registered model, where the environment names no other."""
OWNER = "ratchet.project"
"""The tag of an experiment on a server that says whose it is."""
FORMER_OWNER = "ratchet.workspace"
"""The one that earlier versions read and wrote; what they wrote for one place is what this one writes for another."""
DATABASES = ("postgresql", "mysql", "mssql")
"""Prefixes of addresses of remote databases, whose drivers have to be installed."""
KINDS = ("sqlite:///", *DATABASES, "http://", "https://", "databricks")
"""Prefixes of addresses of stores. MLflow keeps no runs in plain folders any more."""
REMOTE = re.compile(r"(?P<scheme>[\w+.-]+)://(?:(?P<user>[^/]*)@)?(?P<host>[^/:]+)(?P<port>:\d+)?(?P<path>/.+)")
REMOTE_BY_SSH = re.compile(r"(?:(?P<user>[^/@]+)@)?(?P<host>[^/:@]+):(?!//)(?P<path>.+)")
"""Addresses of git's remotes."""
FORGES = re.compile(r"git|gitea|forgejo|gitlab|hg|org-\d+")
"""Users by whom all reach a forge over ssh."""
WEB_PORTS = {"http": ":80", "https": ":443"}
"""The usual ports, which are the same place as none."""
PATIENCE_S = 30.0
"""Seconds that a local database may be busy, and that the end of a run waits for the next spool to arrive. Later events stay in the spool."""


def uri() -> str:
    """Return the address of the store: `MLFLOW_TRACKING_URI`, else `mlflow.db` of this workspace, which plain `mlflow ui` reads."""
    return os.environ.get(environment.TRACKING_URI) or "sqlite:///mlflow.db"


def shown() -> str:
    """Return the address without its password."""
    return without_passwords(uri())


def name() -> str:
    """Return the name of our experiment and of our registered model."""
    return os.environ.get(environment.NAME) or NAME


def is_shared() -> bool:
    """Return whether workspaces of others may use the store too."""
    return file_of(uri()) is None


def file_of(address: str) -> Path | None:
    """Return the file of a local database, whose address may end in options: `sqlite:///mlflow.db?timeout=30`; None of a server."""
    kind, _, place = address.partition(":///")
    return Path(place.partition("?")[0]) if kind.startswith("sqlite") else None


def is_new() -> bool:
    """Return whether the store is a local database that does not exist yet."""
    return (file := file_of(uri())) is not None and not file.is_file()


def check() -> None:
    """Raise ValueError where the store is no database or server, a database whose driver is not installed, or a local one that
    cannot be written.

    A remote store that does not answer is an outage, not a mistake: runs are spooled until it does.
    """
    if not uri().startswith(KINDS):
        kinds = ", ".join(f"{kind}…" for kind in KINDS)
        raise ValueError(f"MLFLOW_TRACKING_URI={shown()}: expected a database or a server ({kinds}).")
    if uri().startswith(DATABASES):
        _check_driver()
    path = file_of(uri())
    if path is None:
        return
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=PATIENCE_S)) as database:
            database.execute("BEGIN IMMEDIATE")
            database.rollback()
    except sqlite3.Error as error:
        raise ValueError(
            f"{path}: MLflow cannot record runs here ({error}). Make the file writable, move it aside, "
            "or name another store in MLFLOW_TRACKING_URI."
        ) from None


def _check_driver() -> None:
    from sqlalchemy import make_url
    from sqlalchemy.exc import NoSuchModuleError

    try:
        make_url(uri()).get_dialect().import_dbapi()
    except (ImportError, NoSuchModuleError) as error:
        raise ValueError(
            f"MLFLOW_TRACKING_URI={shown()}: its driver is not installed ({error}). "
            '`pip install "ratchet-llm[postgres]"` brings that of PostgreSQL; postgresql+NAME:// names another one.'
        ) from None


def outages() -> tuple[type[Exception], ...]:
    """Return the exceptions that an unreachable, full or locked store raises."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return (MlflowException, SQLAlchemyError, OSError)


def reason(error: Exception) -> str:
    """Return the first line of a store's error; MLflow names the address that it asked, with the password that it may hold."""
    return without_passwords(str(error).partition("\n")[0])


def condition(error: Exception) -> str:
    """Return why a store accepted nothing, as the predicate of a sentence about it."""
    if getattr(error, "error_code", None) == "UNAUTHENTICATED" or "error code 401" in str(error):
        user = os.environ.get("MLFLOW_TRACKING_USERNAME")
        known = "export MLFLOW_TRACKING_USERNAME=… MLFLOW_TRACKING_PASSWORD=… of one that it knows"
        return f"refuses {f'the user {user}' if user else 'whoever has no user'}; runs wait in {SPOOL}. {known}"
    if getattr(error, "error_code", None) == "PERMISSION_DENIED" or "error code 403" in str(error):
        user = os.environ.get("MLFLOW_TRACKING_USERNAME", "this user")
        return f"does not let {user} write to experiment {name()}; runs wait in {SPOOL}. Whoever made the experiment grants {user} EDIT"
    return f"does not answer; runs wait in {SPOOL}. {reason(error)}"


def is_refusal(error: Exception) -> bool:
    """Return whether the store answered that it will never take this, so that retrying is useless."""
    return getattr(error, "error_code", None) in ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "INVALID_STATE")


def connect() -> tuple[Any, str]:
    """Return a client of the store and the id of our experiment. The first process creates the database."""
    # A server that is away is asked again by the next batch: MLflow's own patience of minutes would hold up every run's end.
    patience = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
    environment.set_defaults(environment.NO_TELEMETRY | patience)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    with lasting():
        import mlflow

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    if uri().startswith(DATABASES):
        from mlflow.store.db import utils

        utils.MAX_RETRY_COUNT = 1  # one that is away: ten attempts take 100 s, and whoever comes next waits for them
    SPOOL.mkdir(parents=True, exist_ok=True)
    with (SPOOL / "store.lock").open("w") as lock:  # two first-comers would both make the schema
        fcntl.flock(lock, fcntl.LOCK_EX)
        client = mlflow.MlflowClient(uri())
        existing = client.get_experiment_by_name(name())
        if existing and existing.lifecycle_stage == "deleted":
            raise ConnectionError(
                f"its experiment {name()!r} was deleted; `mlflow experiments restore -x {existing.experiment_id}`"
            )
        if existing is None:
            owner = dict.fromkeys((OWNER, FORMER_OWNER), _project()[0]) if is_shared() else {}
            return client, client.create_experiment(name(), tags=dict(experiment_page.TAGS) | owner)
        if is_shared():
            _check_owner(client, existing)
        return client, existing.experiment_id


def _check_owner(client: Any, experiment: Any) -> None:
    """Raise ConnectionError if an experiment is that of another project: runs wait in the spool rather than mix with its own."""
    owner, former, project = experiment.tags.get(OWNER), experiment.tags.get(FORMER_OWNER), _project()
    if owner is None and (former is None or {former, _places(former)[0]}.intersection(project)):
        client.set_experiment_tag(experiment.experiment_id, OWNER, project[0])
    elif owner != project[0]:
        raise ConnectionError(
            f"its experiment {name()!r} belongs to another workspace, {without_passwords(owner or former)}. export {environment.NAME}=… gives this one "
            f"a name of its own; if both are the same project, remove the experiment's tags {OWNER} and {FORMER_OWNER} in MLflow's page"
        )


def _project() -> list[str]:
    """Return what clones of one project have in common: the places of their remote, or else this folder of this machine."""
    remote = git.origin()
    return _places(remote) if remote else [f"{socket.gethostname()}:{Path.cwd()}"]


def _places(remote: str) -> list[str]:
    """Return host and path of a remote, which one clone reaches by `git@host:path` and another by `https://token@host/path.git`, and what
    earlier versions wrote for them, the first one the remote itself: their experiments are known again.

    A path in somebody's home begins with `~` and their name; without a name it is not known whose. That of a forge's user does not: it is the
    same for all. A web server's port stays unless it is the usual one: two of a machine may be two forges, and nothing tells that ssh leads to one
    of them.
    """
    address = REMOTE.fullmatch(remote) or REMOTE_BY_SSH.fullmatch(remote)
    if address is None:
        return [without_passwords(remote)]
    parts = address.groupdict()
    scheme, host, port = parts.get("scheme", "ssh"), parts["host"].lower(), parts.get("port") or ""
    whole = parts["path"].strip("/").removesuffix(".git")
    plain = f"{host}/{whole}"
    if "ssh" not in scheme:
        with_port = f"{host}{port}/{whole}"
        return [plain, with_port] if port == WEB_PORTS.get(scheme) else [with_port, plain]
    path, user = whole.removeprefix("~/"), (parts["user"] or "").partition(":")[0]  # without a password
    says_home, is_relative = path != whole, not parts["path"].startswith(("/", "~"))
    at_home = f"{host}/~{user}/{path}"
    if FORGES.fullmatch(user):
        return [f"{host}/{path}", plain, at_home]
    return [at_home, plain] if says_home or is_relative else [plain]


def experiment() -> str:
    """Return the id of our experiment, whose page is as this version wants it. Raises ConnectionError if the store does not answer."""
    try:
        client, number = connect()
        for name, value in experiment_page.missing(client.get_experiment(number).tags).items():
            client.set_experiment_tag(number, name, value)
        return number
    except outages() as error:
        raise ConnectionError(f"MLflow's store does not answer: {reason(error)}") from None


def find(client: Any, experiment: str, own_id: str) -> str | None:
    """Return the MLflow run with this id of ours (tag `ratchet.run`), None without one."""
    runs = client.search_runs([experiment], f"tags.`ratchet.run` = '{own_id}'", max_results=1)
    return runs[0].info.run_id if runs else None


def maker(client: Any, experiment: str, stage: str, key: str) -> str | None:
    """Return the MLflow run that made a stage's outputs under this key. Equal items of a stage share a key."""
    query = f"tags.`dvc.stage` = '{stage}' and tags.`ratchet.key` = '{key}' and attributes.status = 'FINISHED'"
    runs = client.search_runs([experiment], query, max_results=1)
    return runs[0].info.run_id if runs else None
