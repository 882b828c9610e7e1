"""Nights on the real graph: new files in data/raw are trained on and judged, a night without news is short; and what came of them
is handed over through S3, as `moto` speaks it on this machine."""

import json
import logging
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer

from tasks.core.records import Example
from tasks.io import tables
from tests.planted import TOKENS, leaks

QUESTIONS = Path("params/micro-data/questions.jsonl")
MODELS = """models:
  base: {group: reference, path: models/base, base: models/base}
  r0: {group: rounds, path: models/tuned/r0, base: models/pretrained}
"""


@dataclass(frozen=True)
class Night:
    """A night: what it printed and recorded, and the state of the workspace in the morning."""

    said: str
    record: dict[str, str]
    decisions: int
    examples: frozenset[str]
    held_out: frozenset[str]


@pytest.fixture(scope="module")
def nightly(workspace, prefect):
    """A workspace whose examples are what has come into a folder, and a model of it is measured. The user has secrets."""
    copy = workspace("micro", PREFECT_API_URL=prefect, **TOKENS)
    copy.set(f"path: {QUESTIONS}", "path: data/raw/day-*.jsonl")
    copy.set("text_tokens: 500", "text_tokens: 8000")  # enough to tell that nothing is worse
    copy.set("test: 0.25", "test: 0.25, gate: 0.25")
    copy.set("models: {}\n", MODELS)
    copy.run("flows.commands", "rounds", "1")
    return copy


@pytest.fixture(scope="module")
def nights(nightly):
    """Three nights: after the first file, without news, and after a second file with a rate at which nothing is learnt."""
    arrive(nightly, "day-1", slice(None, None, 2))
    first, second = night(nightly), night(nightly)
    arrive(nightly, "day-2", slice(1, None, 2))
    nightly.set("learning_rate: 0.003", "learning_rate: 1.0e-9")
    return first, second, night(nightly)


def arrive(workspace, day, part):
    """Some of the questions come as a file of that day."""
    rows = (workspace.folder / QUESTIONS).read_text().splitlines()[part]
    (workspace.folder / f"data/raw/{day}.jsonl").write_text("\n".join(rows) + "\n")


def night(workspace):
    """Run a night."""
    said = workspace.run("flows.commands", "retrain")
    record = json.loads((workspace.folder / ".ratchet/nights.jsonl").read_text().splitlines()[-1])
    decisions = (workspace.folder / "data/promotions.jsonl").read_text().splitlines()
    held_out = [f"data/ingested/{name}.parquet" for name in ("valid", "test", "gate")]
    return Night(
        said,
        record,
        len(decisions),
        ids(workspace, "data/rounds/r0/examples.parquet"),
        frozenset().union(*(ids(workspace, table) for table in held_out)),
    )


def ids(workspace, table):
    return frozenset(row.id for row in tables.read(workspace.folder / table, Example))


def test_what_came_in_by_day_is_trained_on_and_promoted(nights):
    first, _, _ = nights
    assert first.record["outcome"] == "promoted", first.said
    assert first.decisions == 1
    assert first.examples


def test_a_night_without_news_is_short(nights):
    _, second, _ = nights
    assert second.record["outcome"] == "nothing new", second.said
    assert "no data, settings or code changed" in second.record["reason"]
    assert second.decisions == 1


def test_a_model_that_is_no_better_is_refused_and_the_data_have_grown(nights):
    first, _, third = nights
    assert third.record["outcome"] == "refused", third.said
    assert third.decisions == 2
    assert "fetch: ran" not in third.said
    assert "ingest: data/raw changed" in third.said
    assert len(third.examples) > len(first.examples)
    assert first.examples <= third.examples | third.held_out  # larger held-out sets take examples of the training set


def test_bisection_names_the_cause_of_the_difference(nightly, nights):
    lock = (nightly.folder / "dvc.lock").read_bytes()
    said = nightly.run("flows.commands", "why", "1", "2", "--bisect")
    assert re.search(r"\ningest, tune@r0: loss \+0\.\d+ \[\+0\.\d+, \+0\.\d+\] nats/token on \d+ test items\n", said), (
        said
    )
    assert "The cause: tune@r0, with " in said
    assert (nightly.folder / "dvc.lock").read_bytes() == lock


@pytest.fixture
def bucket(monkeypatch):
    """The address of a bucket, on a server of its own."""
    import boto3

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "anyone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "anything")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    boto3.client("s3").create_bucket(Bucket="ratchet")
    yield "s3://ratchet/store"
    server.stop()


def test_it_is_handed_over_through_s3(nightly, nights, bucket, tmp_path):
    said = nightly.run("flows.commands", "share", "--to", bucket)
    # All that was never committed, the README too.
    assert "data/raw holds files that neither DVC nor git carries (3, 0.0 MB): git add --force data/raw" in said
    subprocess.run(["git", "add", "--force", "data/raw"], cwd=nightly.folder, check=True)
    clone = nightly.cloned(tmp_path / "clone")
    clone.run("dvc", "pull", "--quiet")
    said = clone.run("flows.commands", "verify", "--no-measure")  # test_tiny.py measures what was handed over
    assert "✗" not in said
    assert "outputs have the hashes of dvc.lock" in said
    assert clone.lock == nightly.lock
    assert leaks([clone.folder], [said]) == []


def test_no_secret_stands_in_anything_that_nights_leave(nightly, nights):
    assert (nightly.folder / "models/tuned/r0/ratchet.json").is_file()
    assert leaks([nightly.folder], [night.said for night in nights]) == []
