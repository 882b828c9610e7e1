"""What is said before and after a flow: everything that can be known to be wrong beforehand, and the result in short."""

from collections.abc import Sequence
from pathlib import Path

from flows import graph, mending
from tasks import settings
from tasks.io import progress, run_store

REPORT = Path("data/report")


def prepare(stages: Sequence[str]) -> list[graph.Step]:
    """The plan for `stages`, once torn files are mended and settings, store and graph are found to be sound."""
    mend()
    settings.load()
    run_store.check()
    return graph.plan(stages)


def mend() -> None:
    """Repair what a killed process left broken, and say so."""
    for line in mending.mend():
        progress.say(line)


def show_summary() -> None:
    """Print what the report says in short, and where the rest is."""
    summary = REPORT / "summary.txt"
    if summary.is_file():
        progress.say("\n" + summary.read_text(encoding="utf-8").rstrip() + "\n")
    if pages := sorted(REPORT.glob("*.html")):
        progress.say(f"Report: {pages[0]}")
    progress.say("Runs:   `ratchet ui` (or `mlflow ui`) shows every run, its metrics and what it was made from.")
