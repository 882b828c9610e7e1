"""A turn of two proposals, one refusal and four examples, refused records and evaluation items; the page over them, and its server."""

import json
import os
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import uvicorn
from starlette.testclient import TestClient

from flows.execution import ports
from flows.project import rounds
from flows.review_page import app
from flows.review_page.entries import Turn
from tasks import configuration
from tasks.core.records import Document, Example, Refusal, Result, Tests
from tasks.io import sandbox, tables
from tests.stages.report.material import HOSTILE, Round, answers, signals, trained

ROOT = Path(__file__).resolve().parents[3]
TOKEN = "a-token"
DECISIONS = Path("data/review_decisions.jsonl")
RECORDS = Path("data/review_records.jsonl")
ITEMS = Path("data/review_items.jsonl")
PASSES = "def f():\n    return 1\n"


@pytest.fixture
def turn(tmp_path, monkeypatch):
    """The turn of a workspace that is the current folder of this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    return prepared()


def prepared():
    """Write a workspace to the current folder. Proposal `a2` has tests that run programs; example `a` has neighbours."""
    shutil.copyfile(ROOT / "params/workstation.yaml", "params.yaml")
    rounds.write_rounds(2, Path("params.yaml"))
    tests = Tests("doctest", ">>> f()\n1", "f")
    material = Round()
    material.second[0] = trained("a2", f"{PASSES}# {HOSTILE}", tests=tests)
    material.signals[0] = replace(material.signals[0], neighbours=["b", "c"])
    material.signals[1] = replace(material.signals[1], flags=[])  # without a threshold, no quality is too low
    material.write(Path("data/rounds"))
    for file in (DECISIONS, RECORDS, ITEMS):
        file.write_text("# what people decided\n")
    write_data()
    return Turn("r1", configuration.load())


def write_data():
    """Write the records that ingest refused and kept, and the results of two models on the test set."""
    refusals = [
        Refusal("rows.jsonl", "rows.jsonl: line 3", "too long", "the response has 900 characters", HOSTILE, "long"),
        Refusal(
            "rows.jsonl",
            "rows.jsonl: line 5",
            "quality: min_words",
            "3, at least 12 are required",
            "Too few words.",
            "few",
        ),
        Refusal("rows.jsonl", "rows.jsonl: line 7", "leak", "overlaps line 1", "What is asked.", "leaked"),
        Refusal("rows.jsonl", "line 9", "no JSON", "Expecting value", "{", ""),
    ]
    ingested = Path("data/ingested")
    tables.write(ingested / "quarantine.parquet", refusals, Refusal)
    tables.write(ingested / "test.parquet", [trained("t0"), trained("t1", HOSTILE)], Example)
    tables.write(ingested / "test_documents.parquet", [], Document)
    for split in ("valid", "gate"):
        tables.write(ingested / f"{split}.parquet", [], Example)
    for place, passed in (("reference/base", [False, False]), ("rounds/r0", [True, False])):
        rows = [*answers(passed, HOSTILE), Result("domain", "t0", "g0", None, 3.0, 10, 40, "", "")]
        tables.write(Path(f"data/results/{place}.parquet"), rows, Result)


@pytest.fixture
def programs():
    """Skip the test if the sandbox cannot run model-written programs."""
    level = sandbox.probe()
    if level.number < 2:
        pytest.skip(f"no program runs here: {level.missing}")


@pytest.fixture
def page(turn):
    """An HTTP client of the page, with the token."""
    return TestClient(
        app.application(turn, "Ada", TOKEN), f"http://127.0.0.1:8765/{TOKEN}/", raise_server_exceptions=False
    )


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The address of the page of a workspace, and the folder of the workspace. A test must change to it before it requests the page."""
    folder, before = tmp_path_factory.mktemp("served"), Path.cwd()
    os.chdir(folder)
    with ports.listen(0, "ratchet review --web") as listener:
        application = app.application(prepared(), "Ada", TOKEN)
        os.chdir(before)
        config = uvicorn.Config(application, lifespan="off", log_level="critical", timeout_graceful_shutdown=1)
        running = uvicorn.Server(config)
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/{TOKEN}/", folder
        running.should_exit = True
        thread.join()


@pytest.fixture
def address(served, monkeypatch):
    """The address of the page of a workspace without decisions, which is the current folder of this process."""
    url, folder = served
    monkeypatch.chdir(folder)
    for file in (DECISIONS, RECORDS, ITEMS):
        file.write_text("# what people decided\n")
    return url


def decided(file=DECISIONS):
    """Return the lines of a file of decisions."""
    return [json.loads(line) for line in file.read_text().split("\n")[1:] if line]


def decide(page, identity, decision, *, view="proposed", seen=0, author="Ada", **fields):
    """Send a decision in the form that the page sends."""
    form = {"view": view, "id": identity, "decision": decision, "seen": seen, "author": author, **fields}
    return page.post("decide", data=form, headers={"HX-Request": "true"})


def many(number):
    """Write a round of `number` examples, each of which was rewritten."""
    from tests.stages.report.material import line

    names = [f"e{index:05}" for index in range(number)]
    return Round(
        first=[trained(name) for name in names],
        second=[trained(f"{name} new", "return 2") for name in names],
        signals=[
            signals(name, 2.0, 1.0, 0.5, quality=float(index % 10), flags=["hard"], chosen=["hard"])
            for index, name in enumerate(names)
        ],
        lineage=[line(f"{name} new", name, "simplify") for name in names],
    )
