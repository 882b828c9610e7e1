"""A turn of two proposals, one refusal and four examples, and the page over it."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from flows.project import rounds
from flows.review_page import app
from flows.review_page.entries import Turn
from tasks import configuration
from tasks.core.records import Tests
from tests.stages.report.material import HOSTILE, Round, signals, trained

ROOT = Path(__file__).resolve().parents[3]
TOKEN = "a-token"
DECISIONS = Path("data/review_decisions.jsonl")
PASSES = "def f():\n    return 1\n"


@pytest.fixture
def turn(tmp_path, monkeypatch):
    """Proposal `a2` has tests that run programs; example `a` has neighbours."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    shutil.copyfile(ROOT / "params/workstation.yaml", "params.yaml")
    rounds.write_rounds(2, Path("params.yaml"))
    tests = Tests("doctest", ">>> f()\n1", "f")
    material = Round()
    material.second[0] = trained("a2", f"{PASSES}# {HOSTILE}", tests=tests)
    material.signals[0] = replace(material.signals[0], neighbours=["b", "c"])
    material.signals[1] = replace(material.signals[1], flags=[])  # no quality is too low without a threshold
    material.write(Path("data/rounds"))
    DECISIONS.write_text("# what people decided\n")
    return Turn("r1", configuration.load())


@pytest.fixture
def page(turn):
    """A browser of the page, with the token."""
    return TestClient(
        app.application(turn, "Ada", TOKEN), f"http://127.0.0.1:8765/{TOKEN}/", raise_server_exceptions=False
    )


def decided():
    """The lines of the file."""
    return [json.loads(line) for line in DECISIONS.read_text().split("\n")[1:] if line]


def decide(page, identity, decision, *, view="proposed", seen=0, author="Ada", **fields):
    """Send a decision as the page does."""
    form = {"view": view, "id": identity, "decision": decision, "seen": seen, "author": author, **fields}
    return page.post("decide", data=form, headers={"HX-Request": "true"})


def many(number):
    """A round of so many examples, each of which was rewritten."""
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
