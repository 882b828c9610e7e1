"""A night with all records on servers: MLflow's and Prefect's in PostgreSQL, outputs on S3. Skipped where PostgreSQL or psycopg is not installed."""

import os
import shutil
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks import servers

psycopg = pytest.importorskip("psycopg")
ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = os.pathsep.join([os.environ["PATH"], *map(str, Path("/usr/lib/postgresql").glob("*/bin"))])


@pytest.fixture(scope="module")
def night():
    try:
        with servers.on_servers("nobody" if os.getuid() == 0 else None) as done:
            yield done
    except servers.Missing as missing:
        pytest.skip(str(missing))


def test_a_night_with_news_promotes_and_one_without_is_short(night):
    first, second = night.said
    assert "promoted" in first.lower()
    assert "nothing new" in second.lower()


def test_runs_and_versions_are_in_the_databases_and_none_is_here(night):
    assert night.local == []
    (finished,) = (row for row in night.rows["mlflow"] if row.startswith("runs FINISHED"))
    assert int(finished.split()[-1]) > 10
    assert "versions 1" in night.rows["mlflow"]
    assert not [row for row in night.rows["mlflow"] if row.startswith(("runs RUNNING", "runs FAILED"))]
    assert "flow runs Promoted 1" in night.rows["prefect"]
    assert "flow runs Nothing new 1" in night.rows["prefect"]


def test_outputs_are_in_the_bucket_and_the_password_in_no_file(night):
    assert "in sync" in night.pushed
    assert night.leaks == []


@pytest.mark.parametrize("database", servers.COUNTS)
def test_a_dump_as_the_page_on_backups_has_it_restores_into_an_empty_database(night, tmp_path, database):
    page = (ROOT / "docs/pages/operations/backup.md").read_text()
    place = f"postgresql://{night.server}"
    with closing(psycopg.connect(f"{place}/postgres", autocommit=True)) as connection:
        connection.execute(f"CREATE DATABASE {database}_again")
    for command in (
        f"pg_dump --format=custom --file={database}.dump {place}/{database}",
        f"pg_restore --no-owner --dbname={place}/{database}_again {database}.dump",
    ):
        name, *words = command.split()
        assert f"{name} {words[0]} " in page
        if (program := shutil.which(name, path=PROGRAMS)) is None:
            pytest.skip(f"no {name} here (Debian's package `postgresql-client`)")
        subprocess.run([program, *words], cwd=tmp_path, check=True)
    assert servers.counts(database, f"{place}/{database}_again") == night.rows[database]
