"""The `faults` section: sources of wrong programs, and thresholds for pairs."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from tasks.core.compute import Compute
from tasks.core.config import Config
from tasks.core.stage import Stage
from tasks.core.text.writing import Decoding, Server

STAGE = Stage(
    reads={
        "model": "models/pretrained",
        "examples": "data/rounds/{item}/examples.parquet",
        "raw": "data/raw",
    },
    writes={
        "pairs": "data/rounds/{item}/faults.parquet",
        "refused": "data/rounds/{item}/faults_refused.parquet",
    },
    items="rounds",
)

OperatorName = Literal[
    "comparison", "arithmetic", "boolean", "boundary", "guard", "arguments", "variable", "condition", "return"
]
OPERATORS: tuple[OperatorName, ...] = OperatorName.__args__  # type: ignore[attr-defined]


class Mutation(Config):
    """Wrong programs made from a correct one by a single small mistake."""

    from_: Literal["mutation"] = Field(alias="from")
    operators: tuple[OperatorName, ...] = Field(OPERATORS, min_length=1)
    """Kinds of mistakes."""
    attempts: int = Field(6, ge=1)
    """Largest number of mutants tried for an example."""


class Drawn(Decoding):
    """Requests to a model, and its decoding."""

    samples: int = Field(2, ge=1)
    """Answers for each example."""
    max_examples: int = Field(64, ge=1)
    """Largest number of examples, chosen by the seed."""


class Sampled(Drawn):
    """Wrong answers of the pretrained model, from which every round's tuning starts. Tests judge programs, verifiers other answers."""

    from_: Literal["sampled"] = Field(alias="from")


class Teacher(Drawn):
    """Variants of a correct program that a model was asked to make slightly wrong."""

    from_: Literal["teacher"] = Field(alias="from")
    server: Server | None = None
    """Server of the teacher; without one the pretrained model is used."""


class Given(Config):
    """Your own pairs: a table with columns `correct` and `incorrect`, and `prompt` if several examples have the same program."""

    from_: Literal["given"] = Field(alias="from")
    path: Path


class Commits(Config):
    """Functions before and after bug-fix commits of a git repository."""

    from_: Literal["commits"] = Field(alias="from")
    path: Path
    revision: str = Field(pattern=r"^[0-9a-f]{7,40}$")
    """The newest commit to read. A branch can move, and the same params must give the same bytes."""
    match: str = r"\b(fix|bug|wrong|correct)"
    """Regular expression that a commit's message must match; case is ignored."""


Source = Annotated[Mutation | Sampled | Teacher | Given | Commits, Field(discriminator="from_")]


class FaultsConfig(Config):
    """Pairs of a correct program and a similar wrong one. The thresholds are ours, not the paper's."""

    sources: tuple[Source, ...] = ()
    """Sources, used in this order. Each is used for the examples that still lack pairs. Without a source there are no pairs."""
    per_example: int = Field(1, ge=1)
    """Pairs of an example. An example with several is trained once with each, unless `fait` merges their marks."""
    similarity: float = Field(0.6, ge=0, le=1)
    """Least similarity of the programs: 1 - Levenshtein distance / longer length."""
    max_lines: int = Field(3, ge=1)
    """Pairs with at most this many differing lines need no `similarity`."""
    max_marked: float = Field(0.5, gt=0, le=1)
    """Largest share of a response's tokens that may be marked. If nearly all are marked, their weights distinguish nothing."""
    max_chars: int = Field(20_000, ge=1)
    """Longest program, in characters."""
    seed: int = 0


class StageConfig(Config):
    """Sections of params.yaml that stage `faults` reads."""

    compute: Compute
    faults: FaultsConfig = FaultsConfig()
