"""A night with all records on servers: MLflow's and Prefect's in PostgreSQL, outputs on S3. Each server runs on this machine while the script does.

It needs PostgreSQL's programs (Debian: postgresql) and psycopg (extra `postgres`). If they are missing, it says so and ends with exit code 0.
PostgreSQL refuses to run as root: in that case `--user` names the user that it runs as.

    python benchmarks/servers.py [--user nobody]
"""

import argparse
import importlib.util
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.end_to_end.conftest import Workspace  # noqa: E402  # the path comes first
from tests.end_to_end.test_night import MODELS, QUESTIONS, arrive  # noqa: E402

STORE = "s3://ratchet/store"
PASSWORD = secrets.token_hex(16)
"""A string that no file of the repository contains: a file that contains it afterwards got it from the night."""


def programs() -> Path | None:
    """Return the folder of PostgreSQL's programs; None if it is not installed."""
    found = shutil.which("initdb")
    places = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return places[-1] if places else None


def free_port() -> int:
    """Return a port that nothing listens to."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def postgres(folder: Path, bin: Path, user: str | None, names: Sequence[str] = ("mlflow", "prefect")) -> Iterator[str]:
    """Run PostgreSQL with databases of these names, and yield its user, password, host and port as an address has them."""
    port = free_port()
    word = folder / "password"
    word.write_text(PASSWORD)
    if user:
        shutil.chown(folder, user)
        shutil.chown(word, user)

    def run(*command: str) -> None:
        subprocess.run(
            [*(["runuser", "--user", user, "--"] if user else []), *command],
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
        )

    data = str(folder / "data")
    run(
        str(bin / "initdb"), "--pgdata", data, "--username", "ratchet", "--pwfile", str(word), "--auth", "scram-sha-256",
        "--no-sync", "--encoding", "UTF8",
    )  # fmt: skip
    options = f"-c listen_addresses=127.0.0.1 -p {port} -k {folder}"
    run(str(bin / "pg_ctl"), "--pgdata", data, "--log", str(folder / "log"), "--options", options, "--wait", "start")
    try:
        import psycopg

        for name in names:
            with psycopg.connect(
                f"postgresql://ratchet:{PASSWORD}@127.0.0.1:{port}/postgres", autocommit=True
            ) as connection:
                connection.execute(f"CREATE DATABASE {name}")
        yield f"ratchet:{PASSWORD}@127.0.0.1:{port}"
    finally:
        run(str(bin / "pg_ctl"), "--pgdata", data, "--mode", "fast", "--wait", "stop")


class Missing(RuntimeError):
    """The programs of a server, or its driver, are not installed."""


@dataclass(frozen=True)
class Night:
    """The state after two nights: one with new data, and one without."""

    said: list[str]
    """The last line of each."""
    seconds: list[float]
    rows: dict[str, list[str]]
    """The contents of the databases of MLflow and Prefect: `runs FINISHED 15`."""
    local: list[str]
    """Databases in the workspace, where none should be."""
    leaks: list[str]
    """Files with the password."""
    pushed: str
    """What DVC says of the outputs here and in the bucket."""
    server: str
    """User, password, host and port of PostgreSQL, as an address has them."""


COUNTS = {
    "mlflow": "SELECT 'runs ' || status || ' ' || count(*) FROM runs GROUP BY status UNION ALL SELECT 'versions ' || count(*) FROM model_versions",
    "prefect": "SELECT 'flow runs ' || state_name || ' ' || count(*) FROM flow_run GROUP BY state_name",
}


def night(folder: Path, server: str, store: str) -> Night:
    """Let a file of examples arrive, run a night and another without news, and push the outputs. Raises RuntimeError with all logs if one fails."""
    settings = {
        "MLFLOW_TRACKING_URI": f"postgresql://{server}/mlflow",
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"postgresql+asyncpg://{server}/prefect",
        "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL": store,
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
    }  # fmt: skip
    workspace = Workspace(folder, "micro", settings)
    for old, new in {
        f"path: {QUESTIONS}": "path: data/raw/day-*.jsonl", "text_tokens: 500": "text_tokens: 8000",
        "test: 0.25": "test: 0.25, gate: 0.25", "models: {}\n": MODELS,
    }.items():  # fmt: skip
        workspace.set(old, new)
    workspace.run("flows.commands", "rounds", "1")
    arrive(workspace, "day-1", slice(None))
    said, seconds = [], []
    for name in ("first night", "night without news"):
        start = time.monotonic()
        done = workspace.attempt("flows.commands", "retrain")
        if done.returncode:
            logs = sorted((folder / ".ratchet/logs").glob("*.log"), key=lambda path: path.stat().st_mtime)
            ends = [f"The end of {path.name}:\n{_end(path)}" for path in logs]
            raise RuntimeError("\n".join([f"{name}: exit code {done.returncode}", done.stdout, done.stderr, *ends]))
        seconds.append(time.monotonic() - start)
        said.append(done.stdout.strip().splitlines()[-1])
    workspace.run("dvc", "remote", "add", "--quiet", "--default", "store", STORE)
    workspace.run("dvc", "push", "--quiet")
    rows = {database: counts(database, f"postgresql://{server}/{database}") for database in COUNTS}
    return Night(
        said=said,
        seconds=seconds,
        rows=rows,
        local=[name for name in ("mlflow.db", ".ratchet/prefect/prefect.db") if (folder / name).exists()],
        leaks=[str(path) for path in folder.rglob("*") if path.is_file() and PASSWORD.encode() in path.read_bytes()],
        pushed=workspace.run("dvc", "status", "--cloud").strip(),
        server=server,
    )


def counts(database: str, address: str) -> list[str]:
    """Return the contents of the database at an address, which has the tables of MLflow or of Prefect."""
    import psycopg

    with psycopg.connect(address) as connection:
        return sorted(row[0] for row in connection.execute(COUNTS[database]))


def _end(log: Path) -> str:
    """Return the last lines of a log."""
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-40:])


@contextmanager
def on_servers(user: str | None) -> Iterator[Night]:
    """Start the servers, and yield their state after the nights. Raises Missing, or RuntimeError if a night fails."""
    bin = programs()
    if bin is None or importlib.util.find_spec("psycopg") is None:
        raise Missing("PostgreSQL's initdb, or psycopg, is not installed: nothing was measured.")
    import boto3
    from moto.server import ThreadedMotoServer

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        place.chmod(0o755)
        (place / "postgres").mkdir()
        (place / "workspace").mkdir()
        moto = ThreadedMotoServer("127.0.0.1", free_port())
        moto.start()
        store = "http://{}:{}".format(*moto.get_host_and_port())
        bucket = boto3.resource(
            "s3", endpoint_url=store, region_name="us-east-1", aws_access_key_id="k", aws_secret_access_key="s"
        ).Bucket("ratchet")
        bucket.create()
        try:
            with postgres(place / "postgres", bin, user) as server:
                yield night(place / "workspace", server, store)
        finally:
            moto.stop()


def main() -> None:
    """Run the nights, and tell what the servers have."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--user")
    try:
        with on_servers(parser.parse_args().user) as done:
            for name, seconds, said in zip(("first night", "night without news"), done.seconds, done.said, strict=True):
                print(f"{name}: {seconds:.0f} s; {said}")
            for database, rows in done.rows.items():
                print(f"{database}: {', '.join(rows)}")
            print(f"local databases: {done.local or 'none'}; files with the password: {done.leaks or 'none'}")
            print(f"S3: {done.pushed}")
    except Missing as missing:
        print(missing)


if __name__ == "__main__":
    main()
