"""MLflow's store of runs: its address, a check that it is usable, and a client."""

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
"""The name of the experiment and of the registered model, unless the environment sets another."""
OWNER = "ratchet.project"
"""The tag that names the owner of an experiment on a server."""
FORMER_OWNER = "ratchet.workspace"
"""The tag of the owner that earlier versions used. Its value for one place may equal the present tag's value for another place."""
DATABASES = ("postgresql", "mysql", "mssql")
"""Prefixes of addresses of remote databases, whose drivers must be installed."""
KINDS = ("sqlite:///", *DATABASES, "http://", "https://", "databricks")
"""Prefixes of addresses of stores. MLflow no longer keeps runs in plain folders."""
REMOTE = re.compile(r"(?P<scheme>[\w+.-]+)://(?:(?P<user>[^/]*)@)?(?P<host>[^/:]+)(?P<port>:\d+)?(?P<path>/.+)")
REMOTE_BY_SSH = re.compile(r"(?:(?P<user>[^/@]+)@)?(?P<host>[^/:@]+):(?!//)(?P<path>.+)")
"""Addresses of git's remotes."""
FORGES = re.compile(r"git|gitea|forgejo|gitlab|hg|org-\d+")
"""User names with which everybody connects to a git forge over ssh."""
WEB_PORTS = {"http": ":80", "https": ":443"}
"""The default ports, which are equivalent to no port."""
PATIENCE_S = 30.0
"""Seconds for which a local database may be busy, and for which the end of a run waits for the upload of the next spool. Later events stay in the spool."""


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
    """Return True if other people's workspaces may use the store too."""
    return file_of(uri()) is None


def file_of(address: str) -> Path | None:
    """Return the file of a local database, whose address may end in options (`sqlite:///mlflow.db?timeout=30`); None for a server."""
    kind, _, place = address.partition(":///")
    return Path(place.partition("?")[0]) if kind.startswith("sqlite") else None


def is_new() -> bool:
    """Return True if the store is a local database that does not exist yet."""
    return (file := file_of(uri())) is not None and not file.is_file()


def check() -> None:
    """Raise ValueError if the store is not a database or server, if the driver of the database is not installed, or if a local
    database cannot be written.

    A remote store that does not answer is an outage, not a mistake: runs stay in the spool until it answers.
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
    """Return the first line of a store's error, without the password that may be in the address that MLflow quotes."""
    return without_passwords(str(error).partition("\n")[0])


def condition(error: Exception) -> str:
    """Return the reason why a store accepted nothing, as the predicate of a sentence."""
    if getattr(error, "error_code", None) == "UNAUTHENTICATED" or "error code 401" in str(error):
        user = os.environ.get("MLFLOW_TRACKING_USERNAME")
        known = "export MLFLOW_TRACKING_USERNAME=… MLFLOW_TRACKING_PASSWORD=… of one that it knows"
        return f"refuses {f'the user {user}' if user else 'whoever has no user'}; runs wait in {SPOOL}. {known}"
    if getattr(error, "error_code", None) == "PERMISSION_DENIED" or "error code 403" in str(error):
        user = os.environ.get("MLFLOW_TRACKING_USERNAME", "this user")
        return f"does not let {user} write to experiment {name()}; runs wait in {SPOOL}. Whoever made the experiment grants {user} EDIT"
    return f"does not answer; runs wait in {SPOOL}. {reason(error)}"


def is_refusal(error: Exception) -> bool:
    """Return True if the store answered that it will never accept this, so that retries are useless."""
    return getattr(error, "error_code", None) in ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "INVALID_STATE")


def connect() -> tuple[Any, str]:
    """Return a client of the store and the id of our experiment. The first caller creates the database."""
    # The next batch tries a server again that is away. MLflow's own retries take minutes and would delay the end of every run.
    patience = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
    environment.set_defaults(environment.NO_TELEMETRY | patience)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    with lasting():
        import mlflow

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    if uri().startswith(DATABASES):
        from mlflow.store.db import utils

        utils.MAX_RETRY_COUNT = 1  # a server that is away: ten attempts take 100 s, and the next caller waits for them
    SPOOL.mkdir(parents=True, exist_ok=True)
    with (SPOOL / "store.lock").open("w") as lock:  # otherwise two first callers would both create the schema
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
    """Raise ConnectionError if an experiment belongs to another project. The runs then wait in the spool, so that they do not mix with that project's."""
    owner, former, project = experiment.tags.get(OWNER), experiment.tags.get(FORMER_OWNER), _project()
    if owner is None and (former is None or {former, _places(former)[0]}.intersection(project)):
        client.set_experiment_tag(experiment.experiment_id, OWNER, project[0])
    elif owner != project[0]:
        raise ConnectionError(
            f"its experiment {name()!r} belongs to another workspace, {without_passwords(owner or former)}. export {environment.NAME}=… gives this one "
            f"a name of its own; if both are the same project, remove the experiment's tags {OWNER} and {FORMER_OWNER} in MLflow's page"
        )


def _project() -> list[str]:
    """Return what the clones of one project have in common: the places of their git remote, or without one, this folder of this machine."""
    remote = git.origin()
    return _places(remote) if remote else [f"{socket.gethostname()}:{Path.cwd()}"]


def _places(remote: str) -> list[str]:
    """Return the host and path of a remote, and the values that earlier versions wrote for it, so that their experiments are recognised.

    The host and path are the same for `git@host:path` in one clone and `https://token@host/path.git` in another. The first version wrote the remote
    itself. A path in a home folder begins with `~` and the user's name; without a name, the owner is unknown. The path of a forge's shared user does
    not, because it is the same for everybody. A web server's port is kept unless it is the default: two ports of one machine may be two forges, and
    nothing shows to which of them ssh leads.
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
    """Return the id of our experiment, after updating its page to this version. Raises ConnectionError if the store does not answer."""
    try:
        client, number = connect()
        for name, value in experiment_page.missing(client.get_experiment(number).tags).items():
            client.set_experiment_tag(number, name, value)
        return number
    except outages() as error:
        raise ConnectionError(f"MLflow's store does not answer: {reason(error)}") from None


def find(client: Any, experiment: str, own_id: str) -> str | None:
    """Return the MLflow run with this id of ours (tag `ratchet.run`); None without one."""
    runs = client.search_runs([experiment], f"tags.`ratchet.run` = '{own_id}'", max_results=1)
    return runs[0].info.run_id if runs else None


def maker(client: Any, experiment: str, stage: str, key: str) -> str | None:
    """Return the MLflow run that made a stage's outputs under this key. Equal items of a stage share a key."""
    query = f"tags.`dvc.stage` = '{stage}' and tags.`ratchet.key` = '{key}' and attributes.status = 'FINISHED'"
    runs = client.search_runs([experiment], query, max_results=1)
    return runs[0].info.run_id if runs else None
