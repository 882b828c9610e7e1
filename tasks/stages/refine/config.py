"""The `refine` section: the generator of proposals, the thresholds of acceptance, the size of the next round."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from tasks.core.compute import Compute
from tasks.core.config import Config
from tasks.core.stage import Stage
from tasks.core.text.contamination_config import Contamination
from tasks.core.text.writing import Decoding, JudgeServer, Server

STAGE = Stage(
    reads={
        "base": "models/pretrained",
        "tuned": "models/tuned/{prev}",
        "examples": "data/rounds/{prev}/examples.parquet",
        "signals": "data/rounds/{item}/signals.parquet",
        "probes": "data/rounds/{item}/probes.parquet",
        "diagnosis": "data/rounds/{item}/diagnosis.json",
        "decisions": "data/review_decisions.jsonl",
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


class Rules(Config):
    """Changes of programs by rule, without a model. Each change preserves the meaning, or is checked by running the program."""

    from_: Literal["rules"] = Field(alias="from")
    tries: int = Field(6, ge=1)
    """Proposals for a chosen example, one after the other, until one is accepted."""


class Writing(Decoding):
    """Settings of a model that is prompted for proposals."""

    tries: int = Field(1, ge=1)
    """Proposals for a chosen example, one after the other, until one is accepted."""
    asks: Literal["prompt", "answer"] = "prompt"
    """`prompt`: a new prompt, then an answer to it, as in Middo. `answer`: another answer to the same prompt, which is also within the reach of
    a small model; this is ours, not Middo's."""
    temperature: float = Field(1.0, gt=0)
    top_p: float = Field(1.0, gt=0, le=1)
    max_new_tokens: int = Field(1024, ge=1)


class Local(Writing):
    """A model on this machine: the tuned one, the pretrained one, or one in a folder."""

    from_: Literal["local"] = Field(alias="from")
    model: Literal["tuned", "pretrained"] | Path = "tuned"
    tries: int = Field(4, ge=1)
    """Proposals for a chosen example, one after the other, until one is accepted."""
    asks: Literal["prompt", "answer"] = "answer"
    """`prompt`: a new prompt, then an answer to it. `answer`: another answer to the same prompt."""
    temperature: float = Field(0.8, gt=0)
    top_p: float = Field(0.95, gt=0, le=1)
    max_new_tokens: int = Field(256, ge=1)


class Endpoint(Writing):
    """A model behind a server."""

    from_: Literal["endpoint"] = Field(alias="from")
    server: Server


class Tasks(Decoding):
    """New tasks of the sources that generate them. A curator that looks at tasks (`failures`) decides the number of each kind."""

    from_: Literal["tasks"] = Field(alias="from")
    answers: Literal["source", "own"] = "source"
    """The author of the answers. `source`: the generator. `own`: the tuned model; the first sampled answer that the verifier accepts is kept,
    and a task without one is replaced by another task."""
    tries: int = Field(3, ge=1)
    """Largest number of draws. Each draw after the first replaces refused tasks by others."""
    samples: int = Field(4, ge=1)
    """Answers that the model samples for each task. This setting and the following ones are for `answers: own`."""
    temperature: float = Field(0.7, gt=0)
    top_p: float = Field(0.95, gt=0, le=1)
    max_new_tokens: int = Field(24, ge=1)
    batch_size: int = Field(32, ge=1)


Generator = Annotated[Rules | Local | Endpoint | Tasks, Field(discriminator="from_")]


class Judge(Config):
    """A model that scores rewritten texts from 0 to 10."""

    server: JudgeServer
    least: float = Field(6.0, ge=0, le=10)
    """Proposals with a lower score are rejected."""


class Acceptance(Config):
    """Thresholds of acceptance. Programs must pass their tests in any case."""

    length: float = Field(4.0, ge=1)
    """Largest factor by which prompt and response may be longer or shorter than the parent's."""
    free: int = Field(400, ge=0)
    """Number of characters up to which any length is allowed."""
    likeness: float | None = Field(0.4, ge=-1, le=1)
    """Least cosine between a text without tests and its parent; null switches the check off, and no embedder is needed."""
    protected: tuple[str, ...] = ()
    """Regular expressions. A text that they match in a prompt must also be in its rewrite."""
    contamination: Contamination = Contamination()
    """Overlap with an evaluation text above which a proposal is rejected."""
    judge: Judge | None = None
    """The judge of texts without tests."""

    @field_validator("protected")
    @classmethod
    def _are_expressions(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is not a regular expression: {error}") from None
        return patterns


class RefineConfig(Config):
    """Settings of the refinement. It simplifies hard examples, improves poor ones and adds new ones near sparse ones, or it adds new tasks."""

    model_config = ConfigDict(serialize_by_alias=True)

    generator: Generator = Rules.model_validate({"from": "rules"})
    accept: Acceptance = Acceptance()
    keep_scale: Literal["paper", "exact"] = "paper"
    """`paper`: added examples make the round larger. `exact`: the number of examples stays the same, which is ours, not Middo's: the examples
    with the nearest neighbours that were not chosen are dropped, and an example that is both hard and poor gets one rewrite."""
    seed: int = 0

    @model_validator(mode="after")
    def _can_keep_its_scale(self) -> "RefineConfig":
        if isinstance(self.generator, Tasks) and self.keep_scale == "exact":
            raise ValueError(
                "`keep_scale: exact` drops the examples with the nearest neighbours, for which a curator of tasks does not look; "
                "set keep_scale: paper"
            )
        return self


class StageConfig(Config):
    """The sections of params.yaml that stage `refine` reads."""

    compute: Compute
    refine: RefineConfig = RefineConfig()
