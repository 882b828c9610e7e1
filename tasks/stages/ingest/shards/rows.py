"""Convert the rows of a shard to columns: plain pairs directly, all other rows by way of records."""

import hashlib
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl

from tasks.core.records import Example, Message, content_id, identify
from tasks.core.text.contamination import comparable, prompt_of
from tasks.core.text.words import normalised
from tasks.io import columns, tables
from tasks.stages.ingest.quarantine import Sourced
from tasks.stages.ingest.reading.cleaning import collapse_whitespace
from tasks.stages.ingest.reading.examples import Asked
from tasks.stages.ingest.reading.rows.pairs import Pair
from tasks.stages.ingest.reading.rows.trajectories import View
from tasks.stages.ingest.screening.sensitive import example_parts

Side = Literal["prompt", "response"]


@dataclass(frozen=True)
class Rows:
    """Examples in their order, each with the label of its file."""

    items: Sequence[Sourced[Example | Pair]]
    constants: Mapping[str, Any]
    """The columns that have the same value for all pairs: task, domain, split, license."""

    def __len__(self) -> int:
        return len(self.items)

    def frame(self) -> pl.DataFrame:
        """Return the examples as a frame, with the additional column `file`."""
        is_pair = np.array([isinstance(record, Pair) for _, record in self.items], bool)
        examples = columns.frame([record for _, record in self.items if isinstance(record, Example)], Example)
        files = pl.Series("file", [file for file, _ in self.items], pl.String)
        if is_pair.any():
            places = np.argsort(np.concatenate([np.flatnonzero(is_pair), np.flatnonzero(~is_pair)]))
            examples = pl.concat([self._pairs(), examples])[places]
        return examples.with_columns(files)

    def compared(self, side: Side) -> list[str]:
        """Return the text of one side of each example for comparison; empty for generated tasks, and for the choice of a tool, a single word."""
        if side == "response":
            return [_compared_response(row) for _, row in self.items]
        return [row.prompt if isinstance(row, Pair) else comparable(row, prompt_of(row)) for _, row in self.items]

    def facts(self) -> dict[str, list[int]]:
        """Return the facts about each example that rules need, except the numbers of words."""
        spoken = [_hash(_spoken(row)) for _, row in self.items]
        return {
            "spoken": spoken,
            "content": [_content(row, key) for (_, row), key in zip(self.items, spoken, strict=True)],
            "prompt": [_prompt(side) for side in self.compared("prompt")],
            "family": [_family(row) for _, row in self.items],
            "prompt_chars": [len(row.prompt if isinstance(row, Pair) else prompt_of(row)) for _, row in self.items],
            "response_chars": [max(len(row.response), len(_rejected(row) or "")) for _, row in self.items],
        }

    def _pairs(self) -> pl.DataFrame:
        """Return the pairs as examples, each in a group of its own."""
        pairs = [(file, row) for file, row in self.items if isinstance(row, Pair)]
        origins = [f"{file}: {row.where}" for file, row in pairs]
        contents = [text for _, row in pairs for text in (row.prompt, row.response)]
        messages = {"role": ["user", "assistant"] * len(pairs), "content": contents}
        known = {
            "id": [content_id("user", row.prompt, "assistant", row.response) for _, row in pairs],
            "messages": columns.lists_of_records(2, Message, messages),
            "group": origins,
            "source": origins,
        }
        defaults = {"round": 0, **self.constants}
        schema = tables.schema(Example)
        return pl.DataFrame(known).select(
            pl.col(name) if name in known
            else pl.lit([], dtype).alias(name) if name == "parents"
            else pl.lit(defaults.get(name), dtype).alias(name)
            for name, dtype in schema.items()
        )  # fmt: skip


def as_example(item: Sourced[Example | Pair], constants: Mapping[str, Any]) -> Sourced[Example]:
    """Return a row as a record."""
    file, row = item
    if isinstance(row, Example):
        return Sourced(file, row)
    messages, origin = [Message("user", row.prompt), Message("assistant", row.response)], f"{file}: {row.where}"
    return Sourced(file, Example(identify(messages), messages, group=origin, source=origin, **constants))


def all_text(row: Example | Pair) -> str:
    """Return all text of a row that comes from the data."""
    if isinstance(row, Pair):
        return f"{row.prompt}\n{row.response}"
    return "\n".join(part.text for part in example_parts(row))


def _prompt(text: str) -> int:
    """Return a hash of a prompt, ignoring case and white space; 0 if it is empty. Signs count, as in `3 + 4` and `3 - 4`."""
    text = collapse_whitespace(normalised(text).casefold())
    return _hash(text) if text else 0


def _compared_response(row: Example | Pair) -> str:
    if isinstance(row, Pair):
        return row.response
    return "" if isinstance(row, View) and row.is_choice else comparable(row, row.response)


def _spoken(row: Example | Pair) -> Hashable:
    """Return the messages of an example with normalised white space."""
    if isinstance(row, Pair):
        return ("user", collapse_whitespace(row.prompt)), ("assistant", collapse_whitespace(row.response))
    return tuple(_said(message) for message in row.messages)


def _said(message: Message) -> tuple[str, ...]:
    spoken = message.role, collapse_whitespace(message.content)
    if message.tool_calls or message.name or message.tool_call_id:
        return *spoken, *map(collapse_whitespace, message.texts)
    return spoken


def _content(row: Example | Pair, spoken: int) -> int:
    """Return a hash of everything that distinguishes an example, ignoring white space. `spoken` is the hash of its messages."""
    if isinstance(row, Pair) or (row.tools is None and row.rejected is None and row.desirable is None):
        return spoken
    return _hash((spoken, row.tools, row.rejected and collapse_whitespace(row.rejected), row.desirable))


def _rejected(row: Example | Pair) -> str | None:
    return None if isinstance(row, Pair) else row.rejected


def _family(row: Example | Pair) -> int:
    """Return a hash of an example's family, whose examples are similar without being duplicates; 0 for an example without a family.

    The family is the trajectory of a view, the group whose text is in the prompt, or the exact prompt of a judged example.
    """
    if isinstance(row, View):
        return _hash(row.trajectory) | 1
    if isinstance(row, Asked):
        return _hash(row.group) | 1
    if isinstance(row, Pair) or (row.rejected is None and row.desirable is None):
        return 0
    return _hash(tuple(row.prompt)) | 1


def _hash(value: Hashable) -> int:
    """Return a 64-bit hash of a value made of texts and numbers. Among 10^8 different values, a collision has a probability of 0.03 %."""
    return int.from_bytes(
        hashlib.blake2b(repr(value).encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little"
    )
