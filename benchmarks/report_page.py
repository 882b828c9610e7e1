"""The report over many items: how long `ratchet report` takes from measured results, how large its page is, and how soon a browser shows it.

A scratch workspace gets results of a base and two rounds on so many items: half of them answers to tasks, half the losses of their
references, with texts that no compression makes small. No model is needed. The page is opened in the machine's own Chromium (Debian's
package `chromium`) five times; the slowest counts.

    python benchmarks/report_page.py [--items 100000]
"""

import argparse
import hashlib
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from docs.browser import opened  # noqa: E402  # the path comes first
from flows.project import rounds  # noqa: E402
from tasks.core.records import Document, Example, FaultPair, Refusal, Result, Tests  # noqa: E402
from tasks.io import tables  # noqa: E402
from tests.end_to_end.conftest import Workspace  # noqa: E402
from tests.stages.report.material import COURSE, INGESTED, Round, example  # noqa: E402

RATES = {"reference/base": 0.2, "rounds/r0": 0.3, "rounds/r1": 0.33}
"""Measured model → the share of its answers that pass."""
GROUPS = 997
LOADS = 5
READY = "new Promise(done => { const look = () => document.getElementById('items-table').dataset.ready ? done(performance.now()) : setTimeout(look, 5); look(); })"


def name_of(task: int) -> str:
    """Return the id of a task: a hash, as ids are."""
    return hashlib.sha256(str(task).encode()).hexdigest()[:16]


def program(task: int, model: str) -> str:
    """Return an answer of a few lines."""
    words = [hashlib.sha256(f"{task} {model} {line}".encode()).hexdigest()[:40] for line in range(5)]
    return "def f(value):\n" + "".join(f"    value = combine(value, '{word}')\n" for word in words) + "    return value"


def results(model: str, rate: float, tasks: int) -> list[Result]:
    """Return an answer to each task, and the loss of its reference."""
    draw = random.Random(model)
    rows = []
    for task in range(tasks):
        passed = draw.random() < rate
        name, group = name_of(task), f"g{task % GROUPS}"
        outcome = "passed" if passed else draw.choice(("assertion", "timeout", "syntax"))
        rows.append(Result("pass@1", name, group, "short", float(passed), 1, 1, outcome, program(task, model)))
        rows.append(Result("domain", name, group, None, draw.gauss(20 - 10 * rate, 3), 12, 50, "", ""))
    return rows


def fill(folder: Path, items: int) -> None:
    """Write the inputs of stage report into a workspace of two rounds."""
    for place, rate in RATES.items():
        tables.write(folder / f"data/results/{place}.parquet", results(place, rate, items // 2), Result)
        facts = {"model": Path(place).name, "parameters": 10_000, "trainable": 1234, "bytes": 2**20}
        write(folder / f"data/metrics/{place}.json", facts)
    for name in ("r0", "r1"):
        write(folder / f"models/tuned/{name}/training.json", COURSE)
        tables.write(folder / f"data/rounds/{name}/faults.parquet", [], FaultPair)
        tables.write(folder / f"data/rounds/{name}/faults_refused.parquet", [], Refusal)
    Round().write(folder / "data/rounds")
    write(folder / "data/selection.json", {"round": "r1", "why": "the lowest validation loss of 2 rounds"})
    write(folder / "data/ingested/report.json", INGESTED)
    write(folder / "models/base/ratchet.json", {"source": {"from": "package", "name": "m", "version": "1", "license": "Apache-2.0"}, "grid": None})  # fmt: skip
    tables.write(folder / "data/ingested/test.parquet", map(task, range(items // 2)), Example)
    tables.write(folder / "data/ingested/test_documents.parquet", [], Document)


def task(number: int) -> Example:
    """Return the example behind an answer."""
    made = example(number, program(number, "reference"))
    return Example(name_of(number), made.messages, "function", "toolz", f"g{number % GROUPS}", "test", f"toolz 1: m{number % GROUPS}.py:f{number}", "BSD-3-Clause", Tests("doctest", ">>> f()", "f"), "short")  # fmt: skip


def write(path: Path, value: object) -> None:
    """Write a record as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def cpu_seconds() -> float:
    """Return the CPU time of all commands that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Make the page, open it, and print a line for each figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=100_000)
    items = parser.parse_args().items
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        workspace = Workspace(folder, "workstation", {})
        rounds.write_rounds(2, folder / "params.yaml")
        fill(folder, items)
        began, spent = time.perf_counter(), cpu_seconds()
        made = subprocess.run(
            [sys.executable, "-m", "flows.commands", "report"],
            cwd=folder, env=workspace.environment, capture_output=True, text=True,
        )  # fmt: skip
        took, spent = time.perf_counter() - began, cpu_seconds() - spent
        if made.returncode:
            sys.exit(made.stdout + made.stderr)
        page = folder / ".ratchet/report/index.html"
        print(
            f"{items:,} items of {len(RATES)} models\n`ratchet report`: {took:.1f} s, {spent:.1f} CPU-seconds\npage: {page.stat().st_size / 1e6:.2f} MB"
        )
        shown, ready = [], []
        with opened() as window:
            for _ in range(LOADS):
                window.open("about:blank")
                began = time.perf_counter()
                window.open(page.as_uri())
                shown.append(time.perf_counter() - began)
                ready.append(window.evaluate(READY) / 1000)
        print(f"opens in {max(shown):.2f} s, its table answers after {max(ready):.2f} s (the slowest of {LOADS})")


if __name__ == "__main__":
    main()
