"""Records that stages hand to each other. Each dataclass is the schema of its table; tables live in `tasks.io.tables`."""

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
"""Texts of the domain, which pretraining is to learn, and those of general language, by which forgetting is measured."""
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
    """`tool` gives the result of a call."""
    content: str
    tool_calls: list[ToolCall] | None = None
    """An assistant's calls, beside its content."""
    name: str | None = None
    """The tool that a result is of, where the data say it."""
    tool_call_id: str | None = None
    """The id of the call that a result is of, where the data say it."""

    @property
    def texts(self) -> list[str]:
        """Return every text of the turn that comes from data."""
        calls = [text for call in self.tool_calls or () for text in (call.name, call.arguments, call.id)]
        return [text for text in (self.content, *calls, self.name, self.tool_call_id) if text]


@dataclass(frozen=True)
class Tests:
    """Executable checks of a program, or the check of another answer.

    `doctest`: `code` is a docstring's examples, run in the namespace that the program leaves behind.
    `script`: `code` is Python that runs after the program in the same namespace and raises where it is wrong.
    `answer`: no program; `code` names a reasoning-gym data set and `entry` holds its entry as JSON.
    `check`: no program; `code` is a check of `tasks.core.answers` with its options, `entry` what it expects, both as JSON.
    """

    __test__ = False  # a record, whatever pytest makes of its name

    kind: Literal["doctest", "script", "answer", "check"]
    code: str
    entry: str
    """The name under test, or the verifier's own data."""
    prelude: str = ""
    """Source that runs before the program; of `answer`, the settings of the data set as JSON, empty without any."""

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
    """The part of the data set it comes from: the package, folder or file."""
    group: str
    """The unit that no split may cut: a source module, a file, a conversation thread."""
    split: Split
    source: str
    """Origin precise enough to find it again: `toolz 1.1.0: toolz/itertoolz.py:take`."""
    license: str
    tests: Tests | None = None
    tier: str | None = None
    """Length tier of the solution (`short`, `medium`, `long`), where pass@1 is reported by tier."""
    weights: list[float] | None = None
    """Loss weight of each character of the last message; none means ones."""
    parents: list[str] = field(default_factory=list)
    round: int = 0
    tools: str | None = None
    """The tools that the assistant may call: a JSON list of schemas, as OpenAI's interface has them."""
    rejected: str | None = None
    """A worse answer to the same prompt, of a preference pair."""
    desirable: bool | None = None
    """The judgement of the response, where data judge single answers. One that is not desirable trains `kto` alone."""
    context_answers: list[int] | None = None
    """The places in `messages` of earlier answers that are context alone, and never trained on."""

    @property
    def prompt(self) -> list[Message]:
        """The conversation up to the response."""
        return self.messages[:-1]

    @property
    def response(self) -> str:
        """The assistant's last message."""
        return self.messages[-1].content

    def with_response(self, response: str) -> "Example":
        """Return the example, under its own id, with another text as its response, whose characters all weigh the same."""
        return replace(self, messages=[*self.prompt, Message("assistant", response)], weights=None)


@dataclass(frozen=True)
class FaultPair:
    """The program of an example beside a similar one that is wrong, and where the two differ.

    Places are characters, or lines, of the programs as they stand here, from 0; a span ends before its second number.
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
    """The verdict of the tests on `incorrect`; empty where there are none."""
    similarity: float
    """1 - Levenshtein distance / length of the longer program."""
    changed_lines: int
    """Lines of the side that has more of them that the other lacks."""
    marked: float
    """The share of the response's tokens that carry a mark."""
    good_lines: list[int]
    good_chars: list[list[int]]
    bad_lines: list[int]
    bad_chars: list[list[int]]
    anchors: list[int]
    """Characters of `correct` before which `incorrect` has more."""
    commented: float = 0.0
    """The share of the marked tokens that lie in a comment or docstring, where a difference is no fault."""


@dataclass(frozen=True)
class Signals:
    """Per-example diagnosis by the model trained on it: losses, neighbours, quality scores, selected sets."""

    example: str
    loss_before: float | None
    """Nats a token of the response under the model before the training; None where `excluded` says why."""
    loss_after: float | None
    """The same under the model that was trained on it."""
    tokens: int
    """Tokens of the response."""
    neighbour_similarity: float | None
    """Mean cosine between its prompt and the nearest others."""
    neighbours: list[str]
    """The examples with these prompts, the nearest first."""
    prompt_factuality: float | None
    """The model's own judgements are 0 to 10; None where it was not asked or its answer could not be read."""
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
    """Those of them that it stays in, where a set was cut to its worst."""
    excluded: str
    """The reason for having no signals (`empty response`, `too long`, `loss is not finite`, `not looked at`); empty if there are any."""


@dataclass(frozen=True)
class Probe:
    """A fresh task that a tuned model was asked, its greedy answer, and the verifier's judgement. No model trains on it."""

    id: str
    """The task's, as an example has it."""
    kind: str
    """The kind of generated tasks that it is of."""
    question: str
    answer: str
    """The model's."""
    expected: str
    """The generator's."""
    passed: bool


WRITTEN = 100_000
"""Characters of a proposal that lineage keeps."""


@dataclass(frozen=True)
class Lineage:
    """One proposed rewrite or new task: its source examples, its text, accepted or refused, and the reason."""

    id: str
    """The new example's, or the one that a refused proposal would have had."""
    parents: list[str]
    """The examples it was made from; it stands in for the first one, unless `operator` is `extend`. A new task has none."""
    operator: Literal["simplify", "improve", "extend", "add", "edit", "reject", "drop"]
    """`add` is a new task of a generator; `edit` and `reject` are a person's decisions; `drop` makes room for new examples where their
    number must not grow."""
    generator: str
    """Its author: the name of a rule, a model or a person."""
    prompt_hash: str
    """Hash of the generator's prompt; empty where there was none."""
    accepted: bool
    reason: str
    """The name of the reason it was refused, or a person's own words; empty otherwise."""
    detail: str
    """More of the reason; of a new task that was accepted, what the model failed at."""
    proposal: str
    """Its response, whole unless it is longer than `WRITTEN` characters; empty where nothing could be proposed."""
    proposed: str = ""
    """The id that it had before a person's decision changed it; empty where none did."""

    @property
    def reviewed(self) -> str:
        """The id that review decisions on it name."""
        return self.proposed or self.id


@dataclass(frozen=True)
class Decision:
    """A review decision: a person's. A later one on the same id replaces an earlier one, and `withdraw` brings the earlier one back."""

    id: str
    """An example's, a proposal's as `Lineage.reviewed` has it, a refused record's as `Refusal.id`, or an item's as `Result.item`."""
    decision: Literal["accept", "edit", "reject", "flag", "withdraw"]
    """An example: it stays as it is, takes `text` for its response, goes, or (`flag`) is improved as if the diagnosis had chosen it. A proposal: it is taken whatever its likeness, length or
    links; it is taken with `text` for its response; it is not taken. A refused record: `accept` keeps it. An item: `reject` leaves it out of
    all figures. `withdraw` takes back the last decision on the id that counts."""
    author: str
    reason: str
    text: str = ""
    time: str = ""
    """For people; nothing follows from it."""


@dataclass(frozen=True)
class Document:
    """One text of a corpus."""

    id: str
    text: str
    domain: str
    """`general`, or the domain's name, `domain` if it has no other."""
    group: str
    split: Split
    source: str
    license: str

    @property
    def corpus(self) -> Corpus:
        return GENERAL if self.domain == GENERAL else "domain"


@dataclass(frozen=True)
class Refusal:
    """A record that was read and refused, with the reason. `record` is its start, by which a person can find it."""

    source: str
    where: str
    """Line, row or name within the source."""
    reason: str
    detail: str
    record: str
    id: str = ""
    """The id of the example or document, by which a person can rescue it; empty of what could not be made one."""


@dataclass(frozen=True)
class SensitiveText:
    """A place where a record holds a secret or personal data, by the rule that says so; the text itself is not here."""

    source: str
    where: str
    """The record's own source: file and line, or name."""
    part: str
    """The role of the turn, `call of TOOL`, `tools`, `rejected`, `tests` or `text`."""
    kind: Literal["secret", "personal"]
    rule: str
    masked: str
    """The first characters, and the length."""
    action: Literal["reported", "redacted", "refused"]


@dataclass(frozen=True)
class Unfit:
    """The reason for leaving out something that was read, found or written."""

    reason: str
    """The name of the reason, by which cases are counted."""
    detail: str = ""


DOMAIN_LOSSES = ("domain", "domain_text")
"""The losses on a workspace's own examples and texts. The first that was measured decides which model is better there."""
CONDITIONS = "conditions"  # names the digest of the settings under which a table of results was measured
LOSSES = (*DOMAIN_LOSSES, "general")
"""The measures that are losses; every other is a share of tasks passed."""
SCORED = " score"
"""The end of the names of measures whose values lie between 0 and 1."""
PASS = "pass@1"
"""The share of a workspace's own tasks that the first answer solves."""
STRONG_PASS = f"{PASS} strong tests"
"""The same of the tasks of the gate set whose tests are not weak."""
PREFERENCE = "preference accuracy"
"""The share of preference pairs whose chosen answer is likelier, for each of its tokens, than the rejected one."""
SUCCESS, REPHRASE, LOCALITY = EDITS = ("edit success", "edit rephrase", "edit locality")
"""The shares of facts written into a model that are told in their own words and in others, and of questions about others answered as before."""


def metric_of(measure: str) -> str:
    """Return the name of a measure as a metric of MLflow and DVC, in letters, digits and underscores: `domain_loss`, `pass_at_1`."""
    name = re.sub(r"\W+", "_", measure.replace("@", "_at_")).strip("_")
    return f"{name}_loss" if measure in LOSSES else name


@dataclass(frozen=True)
class Result:
    """The result of a model on one item of one measure. Two models are paired by joining on (measure, item)."""

    measure: str
    """`domain`, `domain_text`, `general` (a loss), `pass@1`, `preference accuracy`, `edit success` and its kin, or a check's (`json score`)."""
    item: str
    group: str
    tier: str | None
    value: float
    """Summed nats of a loss item; 1.0 or 0.0 of an answer that is right or wrong; 0 to 1 of a score."""
    tokens: int
    """Trained tokens behind `value`; 1 for an answer."""
    size: int
    """UTF-8 bytes behind `value` (bits per byte need them); 1 for an answer."""
    outcome: str
    """`passed`, or how it failed; empty for a loss."""
    output: str
    """The text that the model wrote; empty for a loss."""
    inside: bool = False
    """True if some tests were compared inside the program's process, which it could have spoilt. False in older tables."""
    parsed: str = ""
    """The part of the answer that was compared with `expected`, where a check judged it; both are empty otherwise."""
    expected: str = ""
    domain: str = ""
    """The domain of the example, by which figures of a check are split."""
    task: str = ""
    """The task of the example, by which figures of a check and the loss on examples are split. Empty in older tables."""

    @property
    def is_loss(self) -> bool:
        """Return whether the value is a loss and not the verdict of tests."""
        return self.measure in LOSSES

    @property
    def is_binary(self) -> bool:
        """Return whether the value says that an answer is right or wrong, 1 or 0."""
        return not self.is_loss and not self.measure.endswith(SCORED) and "sampled" not in self.measure


def content_id(*parts: str) -> str:
    """Return the first 16 hex digits of the SHA-256 of `parts`: the same content has the same id everywhere."""
    listed = ", ".join(map(encode_basestring, parts))  # as `json.dumps` writes them, in half the time
    return hashlib.sha256(f"[{listed}]".encode()).hexdigest()[:16]


def identify(
    messages: Sequence[Message],
    tests: Tests | None = None,
    *,
    tools: str | None = None,
    rejected: str | None = None,
    desirable: bool | None = None,
) -> str:
    """Return the id of an example: a hash of its messages, tests and what else of these it has. Another check makes no other example."""
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
