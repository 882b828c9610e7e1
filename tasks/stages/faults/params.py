"""The `faults` section: where wrong programs come from, and which of them are of use."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from tasks.core.compute import Compute
from tasks.core.params import Params
from tasks.core.stage import Stage
from tasks.core.writing import Decoding, Server

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


class Mutation(Params):
    """One small mistake made in a correct program."""

    from_: Literal["mutation"] = Field(alias="from")
    operators: tuple[OperatorName, ...] = Field(OPERATORS, min_length=1)
    """The kinds of mistakes."""
    attempts: int = Field(6, ge=1)
    """Mutants of an example that are tried at most."""


class Drawn(Decoding):
    """What a model is asked for, and how it writes."""

    samples: int = Field(2, ge=1)
    """Answers to each example."""
    max_examples: int = Field(64, ge=1)
    """Examples that are asked for, chosen by the seed."""


class Sampled(Drawn):
    """What the model itself answers, where it fails: the pretrained one, from which every round's tuning starts anew."""

    from_: Literal["sampled"] = Field(alias="from")


class Teacher(Drawn):
    """A model that is asked for a variant of a correct program that is close and wrong."""

    from_: Literal["teacher"] = Field(alias="from")
    server: Server | None = None
    """Who is asked; without one it is the pretrained model."""


class Given(Params):
    """Pairs of the user's: a table with columns `correct` and `incorrect`, and `prompt` where programs are not enough to tell."""

    from_: Literal["given"] = Field(alias="from")
    path: Path


class Commits(Params):
    """Functions before and after the commits of a git repository that mend something."""

    from_: Literal["commits"] = Field(alias="from")
    path: Path
    revision: str = Field(pattern=r"^[0-9a-f]{7,40}$")
    """The newest commit to look at: a branch moves, and the same params must give the same bytes."""
    match: str = r"\b(fix|bug|wrong|correct)"
    """A regular expression that a commit's message must match, whatever its case."""


Source = Annotated[Mutation | Sampled | Teacher | Given | Commits, Field(discriminator="from_")]


class FaultsParams(Params):
    """Pairs of a correct program and a similar wrong one. The thresholds are ours, not the paper's."""

    sources: tuple[Source, ...] = ()
    """Asked in this order, each for the examples that still lack pairs. Without any there are no pairs."""
    per_example: int = Field(1, ge=1)
    """Pairs of an example; with several it trains once with each, unless `fait` is to put their marks together."""
    similarity: float = Field(0.6, ge=0, le=1)
    """Least similarity of the two programs, 1 - Levenshtein distance / length of the longer one…"""
    max_lines: int = Field(3, ge=1)
    """… unless no more lines than these differ."""
    max_marked: float = Field(0.5, gt=0, le=1)
    """Largest share of a response's tokens that may be marked: with nearly all of them, weights say nothing."""
    max_chars: int = Field(20_000, ge=1)
    """Longest program that is looked at."""
    seed: int = 0


class Settings(Params):
    """What stage `faults` reads of params.yaml."""

    compute: Compute
    faults: FaultsParams = FaultsParams()
