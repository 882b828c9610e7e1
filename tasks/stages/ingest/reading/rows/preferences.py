"""Read judgements of answers: the rejected side of a preference pair, or the label of a single answer."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from tasks.core.records import Message, Unfit
from tasks.stages.ingest.reading.rows.conversations import conversation, side_columns

LABELS = {"true": True, "yes": True, "1": True, "1.0": True, "false": False, "no": False, "0": False, "0.0": False}
TAG = "kto_tag"
"""The column of the label of a conversation's answer."""


class Judgement(NamedTuple):
    """A row's judgement of its answer."""

    rejected: str | None = None
    """A worse answer to the same prompt."""
    desirable: bool | None = None

    @property
    def is_given(self) -> bool:
        """Return True if the row has a judgement."""
        return self != Judgement()


def judgement(row: Mapping[str, Any], messages: Sequence[Message]) -> Judgement | Unfit:
    """Return the judgement in a row whose conversation is `messages`, or the reason why it is unusable.

    A pair has `chosen` and `rejected`, either with a prompt or as whole conversations (TRL, UltraFeedback). A single answer has `label`, true
    or false, with `prompt` and `completion` (TRL), or `kto_tag` with a conversation. SQLite has 1 and 0 for true and false, and pandas writes
    1.0 and 0.0 if some are missing.
    """
    if columns := side_columns(row):
        chosen, rejected = columns
        worse = conversation({**row, chosen: row[rejected]})
        if isinstance(worse, Unfit):
            return Unfit(worse.reason, f"the rejected side: {worse.detail}")
        return _pair(messages, worse)
    is_labelled = row.get("prompt") is not None and row.get("completion") is not None
    label = row.get("label") if is_labelled else row.get(TAG)
    return Judgement(desirable=_truth(label))


def _pair(better: Sequence[Message], worse: Sequence[Message]) -> Judgement | Unfit:
    if list(better[:-1]) != list(worse[:-1]):
        return Unfit("sides of different prompts", "the two sides differ before their last turn")
    if better[-1] == worse[-1]:
        return Unfit("equal sides", "the chosen answer and the rejected one are the same")
    if better[-1].tool_calls or worse[-1].tool_calls:
        return Unfit("side calls a tool", "answers are compared as texts, and one of these is a tool call")
    return Judgement(rejected=worse[-1].content)


def _truth(label: Any) -> bool | None:
    """Return the truth of a label; None for a label that is neither true nor false."""
    if isinstance(label, int | float | Decimal):
        return bool(label) if label in (0, 1) else None
    return LABELS.get(label.strip().lower()) if isinstance(label, str) else None
