"""Records that stages pass to each other. Each dataclass is the schema of its table, and `tasks.io.tables` reads and writes the tables."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from json.encoder import encode_basestring
from typing import Literal

Split = Literal["train", "valid", "test", "gate"]
"""`valid` steers a training, `test` is reported, `gate` decides promotions. No example is in two of them."""
Corpus = Literal["domain", "general"]
"""Texts of the domain, on which pretraining trains, and texts of general language, on which forgetting is measured."""
GENERAL: Corpus = "general"


@dataclass(frozen=True)
class ToolCall:
    """A call of a tool that the assistant writes."""

    name: str
    arguments: str
    """A JSON object."""
    id: str | None = None


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant", "tool"]
    """`tool` is the result of a call."""
    content: str
    tool_calls: list[ToolCall] | None = None
    """An assistant's calls, beside its content."""
    name: str | None = None
    """The tool that returned the result, if the data name it."""
    tool_call_id: str | None = None
    """The id of the call that returned the result, if the data have it."""

    @property
    def texts(self) -> list[str]:
        """Return every text of the turn that comes from data."""
        calls = [text for call in self.tool_calls or () for text in (call.name, call.arguments, call.id)]
        return [text for text in (self.content, *calls, self.name, self.tool_call_id) if text]


@dataclass(frozen=True)
class Tests:
    """Executable checks of a program, or the check of another answer.

    `doctest`: `code` is a docstring's examples, run in the namespace that the program leaves behind.
    `script`: `code` is Python that runs after the program in the same namespace and raises an error if the program is wrong.
    `answer`: no program; `code` names a reasoning-gym data set and `entry` holds its entry as JSON.
    `check`: no program; `code` is a check of `tasks.core.answers` with its options, and `entry` the expected answer, both as JSON.
    """

    __test__ = False  # a record: pytest must not collect it because of its name

    kind: Literal["doctest", "script", "answer", "check"]
    code: str
    entry: str
    """The name under test, or the verifier's own data."""
    prelude: str = ""
    """Source that runs before the program; for `answer`, the settings of the data set as JSON, or empty."""

    @property
    def run_programs(self) -> bool:
        """Return True if the answers are programs, which run in the sandbox."""
        return self.kind in ("doctest", "script")


@dataclass(frozen=True)
class Example:
    """One supervised conversation. The last message is the assistant's; earlier ones are the prompt."""

    id: str
    messages: list[Message]
    task: str
    """The kind of work: `function`, `reasoning`, `chat`, …"""
    domain: str
    """The part of the data from which it comes: the package, folder or file."""
    group: str
    """The unit that stays in one split: a source module, a file, a conversation thread."""
    split: Split
    source: str
    """Origin precise enough to find it again: `toolz 1.1.0: toolz/itertoolz.py:take`."""
    license: str
    tests: Tests | None = None
    tier: str | None = None
    """Length tier of the solution (`short`, `medium`, `long`), if pass@1 is reported by tier."""
    weights: list[float] | None = None
    """Loss weight of each character of the last message; none means ones."""
    parents: list[str] = field(default_factory=list)
    round: int = 0
    tools: str | None = None
    """The tools that the assistant may call: a JSON list of schemas in OpenAI's form."""
    rejected: str | None = None
    """A worse answer to the same prompt, of a preference pair."""
    desirable: bool | None = None
    """The judgement of the response, if the data judge single answers. An undesirable one is used only by the objective `kto`."""
    context_answers: list[int] | None = None
    """The indices in `messages` of earlier answers that are only context and never trained on."""

    @property
    def prompt(self) -> list[Message]:
        """The conversation up to the response."""
        return self.messages[:-1]

    @property
    def response(self) -> str:
        """The assistant's last message."""
        return self.messages[-1].content

    def with_response(self, response: str) -> "Example":
        """Return the example with the same id and another text as its response, whose characters all have the same weight."""
        return replace(self, messages=[*self.prompt, Message("assistant", response)], weights=None)


@dataclass(frozen=True)
class FaultPair:
    """The program of an example, a similar wrong program, and the places where they differ.

    Places are character offsets, or lines, of the programs in this record, from 0. A span ends before its second number.
    """

    id: str
    example: str
    """The id of the example whose response holds `correct`."""
    correct: str
    incorrect: str
    source: Literal["mutation", "sampled", "given", "teacher"]
    origin: str
    """The kind of mutation (`comparison`), or the place of a given pair (`data/raw/pairs.jsonl: line 3`)."""
    verified: bool
    """True if `correct` passed the tests and `incorrect` failed them."""
    outcome: str
    """The verdict of the tests on `incorrect`; empty if there are no tests."""
    similarity: float
    """1 - Levenshtein distance / length of the longer program."""
    changed_lines: int
    """Number of lines that one side has and the other lacks, for the side with more of them."""
    marked: float
    """The share of the response's tokens that carry a mark."""
    good_lines: list[int]
    good_chars: list[list[int]]
    bad_lines: list[int]
    bad_chars: list[list[int]]
    anchors: list[int]
    """Positions in `correct` at which `incorrect` has additional characters."""
    commented: float = 0.0
    """The share of the marked tokens that are in a comment or docstring, where a difference is not a fault."""


@dataclass(frozen=True)
class Signals:
    """Per-example diagnosis by the model trained on it: losses, neighbours, quality scores, selected sets."""

    example: str
    loss_before: float | None
    """Loss of the response under the model before the training, in nats per token; None if `excluded` gives a reason."""
    loss_after: float | None
    """The loss under the model that was trained on it, in nats per token."""
    tokens: int
    """Tokens of the response."""
    neighbour_similarity: float | None
    """Mean cosine between its prompt and the nearest others."""
    neighbours: list[str]
    """The examples with these prompts, the nearest first."""
    prompt_factuality: float | None
    """The six judgements by the model are 0 to 10; None if it was not asked or its answer could not be read."""
    prompt_clarity: float | None
    prompt_completeness: float | None
    response_factuality: float | None
    response_clarity: float | None
    response_completeness: float | None
    quality: float | None
    """The mean of the six."""
    flags: list[str]
    """The sets it belongs to by the thresholds: `hard`, `low`, `sparse`."""
    chosen: list[str]
    """The sets in which it remains after sets were cut to their worst members."""
    excluded: str
    """The reason why there are no signals (`empty response`, `too long`, `loss is not finite`, `not looked at`); empty if there are any."""


@dataclass(frozen=True)
class Probe:
    """A fresh task that a tuned model was asked, its greedy answer, and the verifier's judgement. No model trains on it."""

    id: str
    """The id that an example of this task has."""
    kind: str
    """The kind of generated tasks to which it belongs."""
    question: str
    answer: str
    """The answer of the model."""
    expected: str
    """The answer of the generator."""
    passed: bool


WRITTEN = 100_000
"""Largest number of characters of a proposal that lineage keeps."""


@dataclass(frozen=True)
class Lineage:
    """One proposed rewrite or new task: its source examples, its text, accepted or refused, and the reason."""

    id: str
    """The id of the new example, or the id that a refused proposal would have had."""
    parents: list[str]
    """The examples from which it was made. It replaces the first one, unless `operator` is `extend`. A new task has none."""
    operator: Literal["simplify", "improve", "extend", "add", "edit", "reject", "drop"]
    """`add` is a new task of a generator; `edit` and `reject` are review decisions; `drop` removes an example to make room for a new one, if the
    number of examples must not grow."""
    generator: str
    """Its author: the name of a rule, a model or a person."""
    prompt_hash: str
    """Hash of the generator's prompt; empty if there was none."""
    accepted: bool
    reason: str
    """The name of the reason for the refusal, or the words of a reviewer; empty otherwise."""
    detail: str
    """Details of the reason; for an accepted new task, the task at which the model failed."""
    proposal: str
    """Its response, cut to `WRITTEN` characters; empty if nothing could be proposed."""
    proposed: str = ""
    """The id that it had before a review decision changed it; empty if none did."""

    @property
    def reviewed(self) -> str:
        """Return the id by which review decisions refer to it."""
        return self.proposed or self.id


@dataclass(frozen=True)
class Decision:
    """A review decision of a person. A later one on the same id replaces an earlier one, and `withdraw` restores the earlier one."""

    id: str
    """The id of an example, of a proposal (`Lineage.reviewed`), of a refused record (`Refusal.id`), or of an item (`Result.item`)."""
    decision: Literal["accept", "edit", "reject", "flag", "withdraw"]
    """For an example, `accept` keeps it, `edit` sets its response to `text`, `reject` removes it, and `flag` has it improved. For a proposal, `accept`
    takes it regardless of its similarity, length or links, `edit` takes it with the response `text`, and `reject` refuses it. A refused record is
    kept by `accept`. An item is left out of all figures by `reject`. `withdraw` takes back the last decision on the id that counts."""
    author: str
    reason: str
    text: str = ""
    time: str = ""
    """A note for people, without effect."""


@dataclass(frozen=True)
class Document:
    """One text of a corpus."""

    id: str
    text: str
    domain: str
    """`general`, or the name of the domain; `domain` if it has no other name."""
    group: str
    split: Split
    source: str
    license: str

    @property
    def corpus(self) -> Corpus:
        return GENERAL if self.domain == GENERAL else "domain"


@dataclass(frozen=True)
class Refusal:
    """A record that was read and refused, with the reason. `record` is the start of its text, by which people can find it."""

    source: str
    where: str
    """Line, row or name within the source."""
    reason: str
    detail: str
    record: str
    id: str = ""
    """The id of the example or document, by which a person can rescue it; empty if the record could not be parsed into one."""


@dataclass(frozen=True)
class SensitiveText:
    """A place where a record holds a secret or personal data, and the rule that found it. It does not contain the secret text."""

    source: str
    where: str
    """The source of the record: file and line, or name."""
    part: str
    """The role of the turn, `call of TOOL`, `tools`, `rejected`, `tests` or `text`."""
    kind: Literal["secret", "personal"]
    rule: str
    masked: str
    """The first characters, and the length."""
    action: Literal["reported", "redacted", "refused"]


@dataclass(frozen=True)
class Unfit:
    """The reason why something that was read, found or written is left out."""

    reason: str
    """The name of the reason, under which cases are counted."""
    detail: str = ""


DOMAIN_LOSSES = ("domain", "domain_text")
"""The losses on the workspace's examples and texts. The first of these that was measured decides which model is better on the domain."""
CONDITIONS = "conditions"  # names the digest of the settings under which a table of results was measured
LOSSES = (*DOMAIN_LOSSES, "general")
"""The measures that are losses. All others are shares of passed tasks or mean scores."""
SCORED = " score"
"""The end of the names of measures whose values lie between 0 and 1."""
PASS = "pass@1"
"""The share of the workspace's tasks that the first answer solves."""
STRONG_PASS = f"{PASS} strong tests"
"""The share of the gate set's tasks without weak tests that the first answer solves."""
PREFERENCE = "preference accuracy"
"""The share of preference pairs whose chosen answer has the higher likelihood per token."""
SUCCESS, REPHRASE, LOCALITY = EDITS = ("edit success", "edit rephrase", "edit locality")
"""The shares of edited facts that the model states in their own wording and in other words, and of questions about other facts that it answers as before."""


def metric_of(measure: str) -> str:
    """Return the name of a measure as a metric of MLflow and DVC, in letters, digits and underscores: `domain_loss`, `pass_at_1`."""
    name = re.sub(r"\W+", "_", measure.replace("@", "_at_")).strip("_")
    return f"{name}_loss" if measure in LOSSES else name


@dataclass(frozen=True)
class Result:
    """The result of a model on one item of one measure. Two models are paired by joining on (measure, item)."""

    measure: str
    """`domain`, `domain_text`, `general` (losses), `pass@1`, `preference accuracy`, a measure of edits (`edit success`), or one of a check (`json score`)."""
    item: str
    group: str
    tier: str | None
    value: float
    """Summed nats for a loss; 1.0 or 0.0 for an answer that is right or wrong; 0 to 1 for a score."""
    tokens: int
    """Trained tokens behind `value`; 1 for an answer."""
    size: int
    """UTF-8 bytes behind `value`, for bits per byte; 1 for an answer."""
    outcome: str
    """`passed`, or the kind of failure; empty for a loss."""
    output: str
    """The text that the model wrote; empty for a loss."""
    inside: bool = False
    """True if some results were compared inside the program's process, where the program could have falsified them. False in older tables."""
    parsed: str = ""
    """The part of the answer that a check compared with `expected`; both are empty without a check."""
    expected: str = ""
    domain: str = ""
    """The domain of the example, by which the figures of a check are broken down."""
    task: str = ""
    """The task of the example, by which the figures of a check and the loss on examples are broken down. Empty in older tables."""

    @property
    def is_loss(self) -> bool:
        """Return True if the value is a loss, not a judgement of an answer."""
        return self.measure in LOSSES

    @property
    def is_binary(self) -> bool:
        """Return True if the value is 1 or 0, for an answer that is right or wrong."""
        return not self.is_loss and not self.measure.endswith(SCORED) and "sampled" not in self.measure


def content_id(*parts: str) -> str:
    """Return the first 16 hex digits of the SHA-256 of `parts`, so that equal contents have the same id everywhere."""
    listed = ", ".join(map(encode_basestring, parts))  # the same text as `json.dumps`, in half the time
    return hashlib.sha256(f"[{listed}]".encode()).hexdigest()[:16]


def identify(
    messages: Sequence[Message],
    tests: Tests | None = None,
    *,
    tools: str | None = None,
    rejected: str | None = None,
    desirable: bool | None = None,
) -> str:
    """Return the id of an example: a hash of its messages, its tests, and those of the other values that it has. It does not depend on the check."""
    spoken = [part for message in messages for part in (message.role, message.content)]
    tested = [tests.kind, tests.code, tests.entry] if tests and tests.kind != "check" else []
    calls = [
        (place, call.name, call.arguments)
        for place, message in enumerate(messages)
        for call in message.tool_calls or ()
    ]
    further = {"calls": calls, "tools": tools, "rejected": rejected, "desirable": desirable}
    present = {name: value for name, value in further.items() if value not in (None, [])}
    return content_id(*spoken, *tested, *([json.dumps(present, ensure_ascii=False)] if present else []))
