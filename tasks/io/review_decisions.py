"""Review decisions, a line of JSON each: `data/review_decisions.jsonl`, which git keeps. Lines that begin with `#` are comments."""

import json
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from tasks.core.records import Decision

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
    """Read the last decision on each id, without its time. Raises ValueError that names an invalid line."""
    check_name(path)
    decisions: dict[str, Decision] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if _is_decision(line):
            decision = _parsed(line, f"{path}: line {number}")
            decisions[decision.id] = decision
    return decisions


def append(path: Path, decision: Decision) -> None:
    """Add a decision at the end of the file."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(decision), ensure_ascii=False) + "\n")


def _has_decisions(path: Path) -> bool:
    return path.is_file() and any(map(_is_decision, path.read_text(encoding="utf-8").splitlines()))


def _is_decision(line: str) -> bool:
    return bool(line.strip()) and not line.startswith("#")


def _parsed(line: str, where: str) -> Decision:
    try:
        values = json.loads(line)
        if not isinstance(values, dict):
            raise ValueError("it is no object")
        if unknown := values.keys() - Decision.__dataclass_fields__.keys():
            raise ValueError(f"there is no field {', '.join(sorted(unknown))}")
        decision = SCHEMA.validate_python(values | {"time": ""})
    except ValidationError as error:
        problem = "; ".join(f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}" for detail in error.errors())
        raise ValueError(f"{where} is no decision: {problem}.") from None
    except ValueError as error:
        raise ValueError(f"{where} is no decision: {error}.") from None
    if decision.decision == "edit" and not decision.text.strip():
        raise ValueError(f"{where}: an edit needs `text`.")
    return decision
