"""Read the lines that `dvc repro` prints, in the words of DVC 3.67; `test_dvc_contract.py` checks each of them."""

import re
from typing import Literal

State = Literal["ran", "restored", "unchanged"]

RAN = "Running stage '{stage}':"
RESTORED = "Stage '{stage}' is cached - skipping run, checking out outputs"
UNCHANGED = "Stage '{stage}' didn't change, skipping"
BUSY = ("Unable to acquire lock", "is busy, it is being blocked by", "Unable to read RWLock-file")
"""Parts of the lines that report a lock of another DVC process."""
CHATTER = (
    "Generating lock file",
    "Updating lock file",
    "To track the changes with git",
    "\tgit add",
    "To enable auto staging",
    "\tdvc config core.autostage",
    "Use `dvc push`",
    "Data and pipelines are up to date",
    "Running stage '",
    "Stage '",
    "> ",
    "WARNING: Process '",  # … had been killed: DVC drops a dead owner's lock
    "  (PID ",
    "If there are no processes with such PIDs",
)
"""Beginnings of DVC's own lines, which are not the stage's."""
FAILED = re.compile(r"ERROR: failed to reproduce '.*': failed to run: ")
"""The line of a stage whose command failed and has printed the reason itself. Any other failure is DVC's own."""


def state(stage: str, line: str) -> State | None:
    """Return what a line reports that DVC did with `stage`; None for any other line."""
    if line == RAN.format(stage=stage):
        return "ran"
    if line == RESTORED.format(stage=stage):
        return "restored"
    return "unchanged" if line == UNCHANGED.format(stage=stage) else None


def is_busy(line: str) -> bool:
    """Return True if a line reports that another DVC process holds a lock."""
    return any(words in line for words in BUSY)


def is_chatter(line: str) -> bool:
    """Return True for a line of DVC's own that tells a reader nothing about the stage."""
    return line.startswith(CHATTER) or FAILED.match(line) is not None
