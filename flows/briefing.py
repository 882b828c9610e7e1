"""What is said before and after a flow: everything that can be known to be wrong beforehand, and the result in short."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flows import graph, mending
from tasks import settings
from tasks.core.candidate import choose
from tasks.io import progress, run_store

REPORT = Path("data/report")


def prepare(stages: Sequence[str]) -> list[graph.Step]:
    """The plan for `stages`, once torn files are mended and settings, store and graph are found to be sound."""
    mend()
    everything = settings.load()
    run_store.check()
    steps = graph.plan(stages)
    if any(step.stage == "register" for step in steps):
        _check_candidate(everything)
    return steps


def _check_candidate(everything: Any) -> None:
    """Raise ValueError where no entry of `models` measures the candidate: stage `register` would, when all else has run."""
    compress = everything.compress
    for name in everything.rounds if compress.round == "best" else [compress.round]:
        choose(everything.models, everything.gate.candidate, {"round": name, "compressor": compress.compressor})


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
