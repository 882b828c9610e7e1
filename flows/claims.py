"""The ledger of claims: what papers say of their methods, and what was found here. One file a method in `docs/claims/`."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

FOLDER = Path(__file__).resolve().parents[1] / "docs/claims"
Verdict = Literal["reproduced", "not reproduced", "not decidable at this size", "open"]


@dataclass(frozen=True)
class Claim:
    """One claim of a paper, as it is tested here. What is measured, how, and against what was written down beforehand."""

    claim: str
    """What the paper says, in our words."""
    metric: str
    """What is measured."""
    control: str
    """What it is compared with, tuned alike."""
    command: str
    """What anyone runs to see it."""
    seeds: int
    found: str
    """The figures, with their intervals; empty while it is open."""
    verdict: Verdict
    power: str = ""
    """For what is not decidable here: the size of effect that could have been seen."""


def read(method: str) -> list[Claim]:
    """The claims of a method; none where nothing was written down."""
    file = FOLDER / f"{method}.json"
    return [Claim(**row) for row in json.loads(file.read_text(encoding="utf-8"))] if file.is_file() else []


def state(method: str) -> str:
    """How a method's claims stand: `2 reproduced, 1 open`; empty without any."""
    counts = Counter(claim.verdict for claim in read(method))
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
