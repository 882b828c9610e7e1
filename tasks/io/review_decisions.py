"""Review decisions, one line of JSON each, in files under git. Lines that begin with `#` are comments.

`data/review_decisions.jsonl` is about examples and proposals, `data/review_records.jsonl` about records that ingest refused, and
`data/review_items.jsonl` about evaluation items. Each stage reads its own file, so that a decision reruns only that stage.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from tasks.core.records import Decision
from tasks.io.system import files

SCHEMA = TypeAdapter(Decision)
FORMER = "decisions.jsonl"
"""The former name of the file."""


def check_name(path: Path) -> None:
    """Raise ValueError if review decisions still stand in the file of the former name beside `path`."""
    former = path.with_name(FORMER)
    if former == path or not _has_decisions(former):
        return
    remedy = (
        f"Both hold decisions: put the lines of {former} before those of {path}, and remove {former}."
        if _has_decisions(path)
        else f"Move it:\n    git mv --force {former} {path}\nor, if git does not track it:\n    mv {former} {path}"
    )
    raise ValueError(f"{former} is called {path} now, and is not read under its former name. {remedy}")


def read(path: Path) -> dict[str, Decision]:
    """Read the decision that counts on each id, without its time. Raises ValueError that names an invalid line."""
    check_name(path)
    return counting(path)


def read_those(path: Path, decision: Literal["accept", "reject"]) -> dict[str, Decision]:
    """Read the decisions that count, from a file with one kind of decisions. Raises ValueError that names a line of another kind or an invalid one."""
    decisions = counting(path)
    other = next((one for one in decisions.values() if one.decision != decision), None)
    if other:
        raise ValueError(
            f"{path}: {other.decision!r} on {other.id} means nothing here; `{decision}` and `withdraw` do."
        )
    return decisions


def history(path: Path) -> dict[str, list[Decision]]:
    """Read all decisions on each id, the earliest first. Raises ValueError that names an invalid line."""
    decisions: dict[str, list[Decision]] = {}
    for number, line in enumerate(_lines(path), 1):
        if _is_decision(line):
            decision = _parsed(line, f"{path}: line {number}")
            decisions.setdefault(decision.id, []).append(decision)
    return decisions


def decision_that_counts(decisions: Sequence[Decision]) -> Decision | None:
    """Return the last of the decisions on an id that was not withdrawn; None if there is none."""
    standing: list[Decision] = []
    for decision in decisions:
        if decision.decision != "withdraw":
            standing.append(decision)
        elif standing:
            standing.pop()
    return standing[-1] if standing else None


def append(path: Path, decision: Decision) -> None:
    """Add a decision at the end of the file."""
    record(path, lambda _: [decision])


def record(path: Path, decide: Callable[[Mapping[str, Sequence[Decision]]], Sequence[Decision]]) -> Sequence[Decision]:
    """Append to the file, and return, the decisions that `decide` derives from its history. A lock keeps other writers out.

    Nothing is written if `decide` raises.
    """
    with files.locked(path) as file:
        decisions = decide(history(path))
        if decisions:
            lines = [json.dumps(asdict(decision), ensure_ascii=False) + "\n" for decision in decisions]
            file.write((_end_of_line(path) + "".join(lines)).encode())
            file.flush()
            os.fsync(file.fileno())
    return decisions


def counting(path: Path) -> dict[str, Decision]:
    """Read the decision that counts for each id, without its time, from a file of any name. Raises ValueError that names an invalid line."""
    last = {identity: decision_that_counts(decisions) for identity, decisions in history(path).items()}
    return {identity: replace(decision, time="") for identity, decision in last.items() if decision}


def _end_of_line(path: Path) -> str:
    """Return the newline that the last line lacks, because an editor may omit it; else an empty text."""
    text = path.read_bytes()
    return "\n" if text and not text.endswith(b"\n") else ""


def _lines(path: Path) -> list[str]:
    """Return the lines of the file, split only at `\\n`, because texts may contain Unicode line separators."""
    return path.read_text(encoding="utf-8").split("\n")


def _has_decisions(path: Path) -> bool:
    return path.is_file() and any(map(_is_decision, _lines(path)))


def _is_decision(line: str) -> bool:
    return bool(line.strip()) and not line.startswith("#")


def _parsed(line: str, where: str) -> Decision:
    try:
        values = json.loads(line)
        if not isinstance(values, dict):
            raise ValueError("it is no object")
        if unknown := values.keys() - Decision.__dataclass_fields__.keys():
            raise ValueError(f"there is no field {', '.join(sorted(unknown))}")
        decision = SCHEMA.validate_python(values | {"time": str(values.get("time", ""))})
    except ValidationError as error:
        problem = "; ".join(f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}" for detail in error.errors())
        raise ValueError(f"{where} is no decision: {problem}.") from None
    except ValueError as error:
        raise ValueError(f"{where} is no decision: {error}.") from None
    if decision.decision == "edit" and not decision.text.strip():
        raise ValueError(f"{where}: an edit needs `text`.")
    return decision
