"""A night with all records on servers: MLflow's and Prefect's in PostgreSQL, outputs on S3. Skipped where PostgreSQL or psycopg is not installed."""

import os

import pytest

from benchmarks import servers


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
