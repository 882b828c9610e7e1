"""Parse the lines that `dvc repro` prints, in the wording of DVC 3.67; `test_dvc_contract.py` checks each of them."""

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
    "WARNING: Process '",  # "… had been killed": DVC drops the lock of a dead owner
    "  (PID ",
    "If there are no processes with such PIDs",
)
"""Beginnings of lines that DVC prints, as opposed to the stage."""
FAILED = re.compile(r"ERROR: failed to reproduce '.*': failed to run: ")
"""The line about a stage whose command failed after printing the reason itself. Any other failure is DVC's own."""


def state(stage: str, line: str) -> State | None:
    """Return what DVC did with `stage` if the line reports it; None for any other line."""
    if line == RAN.format(stage=stage):
        return "ran"
    if line == RESTORED.format(stage=stage):
        return "restored"
    return "unchanged" if line == UNCHANGED.format(stage=stage) else None


def is_busy(line: str) -> bool:
    """Return True if a line reports that another DVC process holds a lock."""
    return any(words in line for words in BUSY)


def is_chatter(line: str) -> bool:
    """Return True if DVC itself printed the line and it says nothing about the stage."""
    return line.startswith(CHATTER) or FAILED.match(line) is not None
