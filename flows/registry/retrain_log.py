"""Log the retrainings of this workspace (`.ratchet/nights.jsonl`): a line when one begins and a line when it has ended.

The log lies beside the other logs and not in git: most retrainings find nothing new. Decisions, which count, are
lines of `data/promotions.jsonl`.
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import uuid4

from flows.execution import workspace, workspace_lease
from flows.registry import history
from tasks.core.config import Config
from tasks.io.system import files

JOURNAL = workspace.SCRATCH / "nights.jsonl"


class Begun(Config):
    """The line of a retraining that began."""

    id: str
    time: str
    cause: str
    """`nightly`, `on-drift`, `by hand`, or the answer of a person."""
    process: str = ""
    """The id of its process, which holds the workspace lease while it works."""


class Ended(Config):
    """The line of a retraining that ended."""

    id: str
    outcome: str
    reason: str
    seconds: float


@dataclass(frozen=True)
class Retraining:
    """A retraining as `ratchet status` shows it."""

    time: str
    """UTC."""
    cause: str
    """`nightly`, `on-drift`, or `by hand`."""
    outcome: str
    reason: str
    seconds: float | None
    """Null while it works, and if its process was killed."""


@dataclass
class RetrainOutcome:
    """The outcome of a retraining, filled in while it runs."""

    outcome: str = "failed"
    reason: str = ""
    open: history.PromotionDecision | None = None
    """The gate's decision, if a person still has to approve it."""
    decision: history.PromotionDecision | None = None
    """The decision on a candidate, if one was made."""
    proposal: str = ""
    """A sentence that proposes an adapter for a new domain in the incoming data; empty if there is none."""


@contextmanager
def recorded(cause: str) -> Iterator[RetrainOutcome]:
    """Log a retraining. An exception becomes its reason. A killed retraining has no end in the log, and is shown as cut off."""
    number, start, outcome = uuid4().hex[:12], time.monotonic(), RetrainOutcome()
    _append(Begun(id=number, time=history.now(), cause=cause, process=str(os.getpid())))
    try:
        yield outcome
    except BaseException as error:
        outcome.outcome = "failed" if isinstance(error, Exception) else "stopped"
        outcome.reason = str(error).partition("\n")[0]
        raise
    finally:
        seconds = round(time.monotonic() - start, 1)
        _append(Ended(id=number, outcome=outcome.outcome, reason=outcome.reason, seconds=seconds))


def last(count: int) -> list[Retraining]:
    """Return the last retrainings, the oldest first. A truncated line is skipped, and its retraining shown as cut off."""
    begun: dict[str, Begun] = {}
    ended: dict[str, Ended] = {}
    for row in files.lines(JOURNAL) if JOURNAL.exists() else []:
        try:
            values = json.loads(row)
            if "cause" in values:
                begun[values["id"]] = Begun.model_validate(values)
            else:
                ended[values["id"]] = Ended.model_validate(values)
        except (ValueError, KeyError):
            continue
    at_work = {owner.pid for path, owner in workspace_lease.held().items() if path.stem == workspace_lease.FLOW}
    return [
        _retraining(line, ended.get(line.id), is_running=line.process in at_work and number == len(begun))
        for number, line in list(enumerate(begun.values(), 1))[-count:]
    ]


def _retraining(begun: Begun, ended: Ended | None, *, is_running: bool) -> Retraining:
    if ended:
        return Retraining(begun.time, begun.cause, ended.outcome, ended.reason, ended.seconds)
    if is_running:
        return Retraining(begun.time, begun.cause, "at work", "", None)
    return Retraining(
        begun.time, begun.cause, "cut off", "its process was killed; the next one continues from there", None
    )


def _append(line: Begun | Ended) -> None:
    JOURNAL.parent.mkdir(parents=True, exist_ok=True)
    # A line that a crash truncated must not become the beginning of this one.
    is_truncated = JOURNAL.exists() and not JOURNAL.read_bytes().endswith(b"\n")
    with JOURNAL.open("a", encoding="utf-8") as file:
        file.write(("\n" if is_truncated else "") + line.model_dump_json() + "\n")
