"""The `tune` section: the composition of methods, and the length of training."""

from typing import Any, Literal

from pydantic import Field

from tasks.core.compute import Compute
from tasks.core.config import Config
from tasks.core.stage import Stage
from tasks.core.training import SavedAdapter, Training, TrainOn, parts

STAGE = Stage(
    reads={
        "base": "models/pretrained",
        "examples": "data/rounds/{item}/examples.parquet",
        "faults": "data/rounds/{item}/faults.parquet",
        "valid": "data/ingested/valid.parquet",
        "documents": "data/ingested/train_documents.parquet",
    },
    writes={"model": "models/tuned/{item}"},
    items="rounds",
    parts=parts("tune"),
)


class Part(Config):
    """The part of one domain in a mixture."""

    weight: float = Field(1.0, ge=0)
    """Number of times that an epoch sees its examples, if the temperature is 1: 2 is twice, 0.5 half of them, 0 none."""
    max_tokens: int | None = Field(None, ge=1)
    """Approximate upper limit of its tokens in an epoch."""


class Mixture(Config):
    """The parts of the domains in an epoch. A domain is a file, data set or package, or the name that its source sets as `domain`."""

    temperature: float = Field(1.0, gt=0)
    """T: a domain of n tokens has a share of an epoch proportional to n^(1/T): above 1 small domains are seen more often, large
    ones less (Arivazhagan et al. 2019, https://arxiv.org/abs/1907.05019); the epoch keeps its length."""
    domains: dict[str, Part] = Field(default_factory=dict)
    """Weight and token budget by domain; domains that are not named have weight 1 and no budget."""


class ProbeConfig(Config):
    """The text that methods look at before the training."""

    corpus: Literal["examples", "domain", "general"] = "examples"
    """The round's examples, or documents of one of the corpora."""
    tokens: int = Field(0, ge=0)
    """Approximate number of its tokens. With 0, methods look at the first training pack."""


class TuneConfig(Training):
    """Training on the examples of a round."""

    max_tokens: int = Field(40_000, ge=0)
    """Training ends after this many tokens, prompts included. With 0 the pretrained model is passed through unchanged."""
    train_on: TrainOn = "all"
    """The answers of a conversation to train on: all of the assistant's, or the last alone. The turns before an answer are its
    context. Preference pairs, diagnosis and evaluation use the last answer."""
    start: SavedAdapter | None = None
    """The adapter that the training starts from. Losses from before the training are those of the model without it."""
    probe: ProbeConfig = ProbeConfig()
    """The text that methods look at before the training."""
    mixture: Mixture = Mixture()
    """The parts of the domains in an epoch."""
    replay: float = Field(0.0, ge=0, lt=1, exclude_if=lambda value: value == 0)
    """Share of the trained tokens that come from the general corpus (`ingest.corpora.general`), so that the model keeps what it knows.
    An example trains only its answers, a text all of its tokens."""
    bank: Literal["none", "task"] = Field("none", exclude_if=lambda value: value == "none")
    """With `task`, train a bank: one adapter for every value of `task` among the examples. Each is trained from the same base, on the
    examples of its task, for `max_tokens`, and stored by itself. `evaluate.router` decides which adapter answers a prompt."""
    bank_examples: int = Field(8, ge=1, exclude_if=lambda value: value == 8)
    """The fewest examples of a task that an adapter of a bank is trained on; a task with fewer is refused."""


class StageConfig(Config):
    """Sections of params.yaml that stage `tune` reads."""

    compute: Compute
    tune: TuneConfig
    methods: dict[str, dict[str, Any]]
    """The sections of the parts."""
