"""Show the short form of the report at the end of a run."""

from pathlib import Path

from tasks.io.system import progress

FOLDER = Path("data/report")


def show() -> None:
    """Print the report's summary, and where its pages and the runs are."""
    summary = FOLDER / "summary.txt"
    if summary.is_file():
        progress.say("\n" + summary.read_text(encoding="utf-8").rstrip() + "\n")
    if pages := sorted(FOLDER.glob("*.html")):
        progress.say(f"Report: {pages[0]}")
    progress.say("Runs:   `ratchet ui` (or `mlflow ui`) shows every run, its metrics and what it was made from.")
