"""The `refine` section: who writes, what is taken of it, and how many examples there are then."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from tasks.core.compute import Compute
from tasks.core.contamination import Contamination
from tasks.core.params import Params
from tasks.core.stage import Stage
from tasks.core.writing import Decoding, Server

STAGE = Stage(
    reads={
        "base": "models/pretrained",
        "tuned": "models/tuned/{prev}",
        "examples": "data/rounds/{prev}/examples.parquet",
        "signals": "data/rounds/{item}/signals.parquet",
        "diagnosis": "data/rounds/{item}/diagnosis.json",
        "decisions": "data/decisions.jsonl",
        "embedder": "models/embedder",
        "ingested": "data/ingested",
    },
    writes={
        "examples": "data/rounds/{item}/examples.parquet",
        "lineage": "data/rounds/{item}/lineage.parquet",
        "refinement": "data/rounds/{item}/refinement.json",
    },
    items="turns",
)


class Rules(Params):
    """No model: changes of programs whose meaning can be proved, or found by running them."""

    from_: Literal["rules"] = Field(alias="from")
    tries: int = Field(6, ge=1)
    """Proposals for a chosen example, one after the other, until one is taken."""


class Writing(Decoding):
    """What a model is asked for, and how it writes."""

    tries: int = Field(1, ge=1)
    """Proposals for a chosen example, one after the other, until one is taken."""
    asks: Literal["prompt", "answer"] = "prompt"
    """`prompt`: a new prompt, then an answer to it, as Middo asks. `answer`: another answer to the prompt as it stands, which a
    small model can give too; ours."""
    temperature: float = Field(1.0, gt=0)
    top_p: float = Field(1.0, gt=0, le=1)
    max_new_tokens: int = Field(1024, ge=1)


class Local(Writing):
    """A model of this machine: the tuned one, the pretrained one, or one in a folder."""

    from_: Literal["local"] = Field(alias="from")
    model: Literal["tuned", "pretrained"] | Path = "tuned"
    tries: int = Field(4, ge=1)
    """Proposals for a chosen example, one after the other, until one is taken."""
    asks: Literal["prompt", "answer"] = "answer"
    """As of a server's model, which is asked for a prompt by default."""
    temperature: float = Field(0.8, gt=0)
    top_p: float = Field(0.95, gt=0, le=1)
    max_new_tokens: int = Field(256, ge=1)


class Endpoint(Writing):
    """A model behind a server."""

    from_: Literal["endpoint"] = Field(alias="from")
    server: Server


Generator = Annotated[Rules | Local | Endpoint, Field(discriminator="from_")]


class Judge(Params):
    """A model that says how good a rewritten text is, from 0 to 10."""

    server: Server
    least: float = Field(6.0, ge=0, le=10)
    """Proposals below are refused."""


class Acceptance(Params):
    """What is taken. Programs must pass their tests in any case."""

    length: float = Field(4.0, ge=1)
    """Prompt and response may be so many times as long, or as short, as what they stand in for; below `free` they may be anything."""
    free: int = Field(400, ge=0)
    """Characters."""
    likeness: float | None = Field(0.4, ge=-1, le=1)
    """Least cosine between a text and the one it was made from, where no tests judge it; none asks for no embedder."""
    protected: tuple[str, ...] = ()
    """Regular expressions: what they match in a prompt must stand in its rewrite too."""
    contamination: Contamination = Contamination()
    """When a proposal holds too much of an evaluation text."""
    judge: Judge | None = None
    """Who is asked about texts that no tests judge."""


class RefineParams(Params):
    """What becomes of the examples that were chosen: hard ones are simplified, poor ones improved, lonely ones added to."""

    model_config = ConfigDict(serialize_by_alias=True)

    generator: Generator = Rules.model_validate({"from": "rules"})
    accept: Acceptance = Acceptance()
    keep_scale: Literal["paper", "exact"] = "paper"
    """`paper`: what is added stays beside what was there. `exact`: as many examples as before; the most crowded ones that were not
    chosen make room, and one that is both hard and poor gets one rewrite. Ours."""
    seed: int = 0


class Settings(Params):
    """What stage `refine` reads of params.yaml."""

    compute: Compute
    refine: RefineParams = RefineParams()
