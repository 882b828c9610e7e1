"""Pairs of a better and a worse answer to one prompt: their setting, and their encoding. Imports no torch."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from tasks.core.config import Config
from tasks.core.records import Example, FaultPair
from tasks.core.sequences import Encoded, Encoder, Encoding
from tasks.core.text.programs import response_with
from tasks.methods.objectives import Table

FAULTS = Table("faults", FaultPair, "faults were not used")
NEEDS = (
    "compares two answers to one prompt, and no example has a rejected one. Bring rows with `prompt`, `chosen` and `rejected`, set "
    "`pairs: faults` where `faults.sources` finds wrong programs, or use `objective: cross_entropy`"
)


class PairsConfig(Config):
    """The setting that objectives on pairs share."""

    pairs: Literal["preferences", "faults"] = "preferences"
    """The worse answers: those that the data reject (`preferences`), or the wrong programs that stage `faults` found (`faults`)."""


def rejected_answers(row: Example, faults: Sequence[FaultPair], config: PairsConfig) -> list[str]:
    """Return the answers that are worse than the example's response."""
    if config.pairs == "preferences":
        return [] if row.rejected is None else [row.rejected]
    return [response_with(row, fault.incorrect) for fault in faults]


def encode_pairs(
    row: Example, faults: Sequence[FaultPair], encoder: Encoder, max_tokens: int, config: PairsConfig
) -> Encoding:
    """Return one sequence for each worse answer, which is its auxiliary sequence; none for an example without a worse answer.

    Only the last answer of a conversation is compared, and all its characters have the same weight. A pair is None if one side is longer
    than a pack.
    """
    sequences: list[Encoded | None] = []
    for rejected in rejected_answers(row, faults, config):
        chosen, worse = (answer_sequence(row, text, encoder, max_tokens) for text in (row.response, rejected))
        sequences.append(replace(chosen, auxiliary=(worse,)) if chosen and worse else None)
    return Encoding(sequences)


def answer_sequence(row: Example, response: str, encoder: Encoder, max_tokens: int) -> Encoded | None:
    """Return the example with this response, the only trained text; None if no pack holds it or it contains the text of a control token."""
    answered = replace(row, weights=None) if response == row.response else row.with_response(response)
    if not encoder.is_plain(answered):
        return None
    sequence = encoder.sequence(answered, encoder.conversation(answered).without_earlier_answers())
    return sequence if len(sequence) <= max_tokens else None
