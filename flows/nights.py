"""The nights of this workspace: what each retraining came to, a line when it begins and one when it has ended.

They lie beside the logs, in `.ratchet/nights.jsonl`, and not in git: most nights bring nothing. Decisions, which count, are
lines of `data/promotions.jsonl`.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import uuid4

from flows import history, workspace
from tasks.core.params import Params

JOURNAL = workspace.SCRATCH / "nights.jsonl"


class Begun(Params):
    """A night began."""

    id: str
    time: str
    cause: str
    """`nightly`, `on-drift`, or `by hand`."""


class Ended(Params):
    """It came to an end."""

    id: str
    outcome: str
    reason: str
    seconds: float


@dataclass(frozen=True)
class Night:
    """A night as `ratchet status` shows it."""

    time: str
    cause: str
    outcome: str
    reason: str
    seconds: float | None


@dataclass
class Outcome:
    """What a night comes to, said while it lasts."""

    outcome: str = "failed"
    reason: str = ""


@contextmanager
def recorded(cause: str) -> Iterator[Outcome]:
    """A night in the journal. What raises is its reason; one that is killed has no end there, and reads so."""
    night, start, said = uuid4().hex[:12], time.monotonic(), Outcome()
    _append(Begun(id=night, time=history.now(), cause=cause))
    try:
        yield said
    except BaseException as error:
        said.outcome = "failed" if isinstance(error, Exception) else "stopped"
        said.reason = str(error).partition("\n")[0]
        raise
    finally:
        seconds = round(time.monotonic() - start, 1)
        _append(Ended(id=night, outcome=said.outcome, reason=said.reason, seconds=seconds))


def last(count: int) -> list[Night]:
    """The last nights, the oldest first. A line that a crash cut off is passed over; its night reads as cut off."""
    begun: dict[str, Begun] = {}
    ended: dict[str, Ended] = {}
    for row in JOURNAL.read_text(encoding="utf-8").splitlines() if JOURNAL.exists() else []:
        try:
            values = json.loads(row)
            if "cause" in values:
                begun[values["id"]] = Begun.model_validate(values)
            else:
                ended[values["id"]] = Ended.model_validate(values)
        except (ValueError, KeyError):
            continue
    lasting = any(path.stem == workspace.FLOW for path in workspace.held())
    return [
        _night(line, ended.get(line.id), lasting=lasting and number == len(begun))
        for number, line in list(enumerate(begun.values(), 1))[-count:]
    ]


def _night(begun: Begun, ended: Ended | None, *, lasting: bool) -> Night:
    if ended:
        return Night(begun.time, begun.cause, ended.outcome, ended.reason, ended.seconds)
    if lasting:
        return Night(begun.time, begun.cause, "at work", "", None)
    return Night(begun.time, begun.cause, "cut off", "its process was ended; the next one goes on from there", None)


def _append(line: Begun | Ended) -> None:
    JOURNAL.parent.mkdir(parents=True, exist_ok=True)
    torn = JOURNAL.exists() and not JOURNAL.read_bytes().endswith(
        b"\n"
    )  # a crash amid a line: it must not swallow this one
    with JOURNAL.open("a", encoding="utf-8") as file:
        file.write(("\n" if torn else "") + line.model_dump_json() + "\n")
