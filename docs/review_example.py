"""An example for the review page: a small workspace whose turn waits for review, made without a model."""

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import uvicorn

from flows.execution import ports
from flows.project import rounds
from flows.review_page import app
from flows.review_page.entries import Turn
from tasks import configuration
from tasks.core.records import Document, Example, Message, Refusal, Result, Tests
from tasks.io import tables
from tests.stages.report.material import Round, line, signals, trained

ROOT = Path(__file__).resolve().parents[1]
TOKEN = "example"
FUNCTIONS = {
    "mean": (
        "Write `mean(values)`: the arithmetic mean of a list of numbers.",
        "def mean(values):\n    total = 0\n    for value in values:\n        total = total + value\n    return total / len(values)\n",
        "def mean(values):\n    return sum(values) / len(values)\n",
        ">>> mean([1, 2, 3])\n2.0\n",
    ),
    "initials": (
        "Write `initials(name)`: the first letters of the words of a name, in capitals.",
        "def initials(name):\n    return ''.join([word[0].upper() for word in name.split(' ')])\n",
        'def initials(name):\n    """Return the first letters of the words of a name."""\n    return \'\'.join(word[0].upper() for word in name.split())\n',
        ">>> initials('ada lovelace')\n'AL'\n",
    ),
    "clamp": (
        "Write `clamp(value, low, high)`: the value, but not below `low` and not above `high`.",
        "def clamp(value, low, high):\n    if value < low:\n        return low\n    if value > high:\n        return high\n    return value\n",
        "def clamp(value, low, high):\n    return max(low, min(value, high))\n",
        ">>> clamp(7, 0, 5)\n5\n",
    ),
}
REFUSALS = [
    Refusal("notes.jsonl", "notes.jsonl: line 12", "too long", "the response has 4,310 characters; max_response_chars is 4000", "def parse(text):\n    …", "a1"),
    Refusal("notes.jsonl", "notes.jsonl: line 31", "near-duplicate", "too like notes.jsonl: line 4 (train), similarity 0.81 of the responses", "def mean(numbers):\n    …", "b2"),
    Refusal("notes.jsonl", "notes.jsonl: line 40", "personal data", "email in assistant: ad…(20)", "Write to [email] for a copy.", "c3"),
]  # fmt: skip
RESULTS = {"reference/base": ("failed", "failed", "passed"), "rounds/r0": ("passed", "failed", "passed")}
"""Model → outcomes of its answers."""


@contextmanager
def served() -> Iterator[str]:
    """Yield the address of the example's review page; the process works in the example's folder until the end."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder, ports.listen(0, "docs/screenshots.py") as listener:
        os.chdir(folder)
        config = uvicorn.Config(app.application(_workspace(), "Ada", TOKEN), lifespan="off", log_level="critical")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://{ports.HOST}:{listener.getsockname()[1]}/{TOKEN}/"
        finally:
            server.should_exit = True
            thread.join()
            os.chdir(before)


def _workspace() -> Turn:
    """Write the example to the current folder, and return its turn."""
    shutil.copyfile(ROOT / "params/workstation.yaml", "params.yaml")
    rounds.write_rounds(2, Path("params.yaml"))
    before = [_example(name, prompt, old, tests) for name, (prompt, old, _, tests) in FUNCTIONS.items()]
    after = [_example(f"{name} 2", prompt, new, tests) for name, (prompt, _, new, tests) in FUNCTIONS.items()]
    lines = [line(new.id, old.id, "simplify") for new, old in zip(after, before, strict=True)]
    refused = [line("clamp 3", "clamp", "simplify", "too short")]
    names = list(FUNCTIONS)
    Round(
        first=before,
        second=after,
        signals=[
            replace(
                signals(
                    name, 4.1 - place / 2, 2.9 - place / 3, 0.8, quality=4.5 + place, flags=["hard"], chosen=["hard"]
                ),
                neighbours=[other for other in names if other != name],
            )
            for place, name in enumerate(names)
        ],
        lineage=[*lines, *refused],
    ).write(Path("data/rounds"))
    ingested = Path("data/ingested")
    tables.write(ingested / "quarantine.parquet", REFUSALS, Refusal)
    tables.write(ingested / "test.parquet", before, Example)
    tables.write(ingested / "test_documents.parquet", [], Document)
    for place, verdicts in RESULTS.items():
        rows = [
            Result("pass@1", name, name, "short", float(outcome == "passed"), 1, 1, outcome, f"def {name}(x): …")
            for name, outcome in zip(names, verdicts, strict=True)
        ]
        tables.write(Path(f"data/results/{place}.parquet"), rows, Result)
    for about in ("decisions", "records", "items"):
        Path(f"data/review_{about}.jsonl").touch()
    return Turn("r1", configuration.load())


def _example(name: str, prompt: str, program: str, tests: str) -> Example:
    messages = [Message("user", prompt), Message("assistant", f"```python\n{program}```")]
    function = name.split()[0]
    return replace(
        trained(name), messages=messages, source=f"helpers 1.2: {function}", tests=Tests("doctest", tests, function)
    )
