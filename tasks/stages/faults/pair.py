"""Build a fault pair from two programs, with the differences marked, or return the reason why they make none."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from operator import and_

from rapidfuzz.distance import Levenshtein

from tasks.core.records import Example, FaultPair, Unfit, content_id
from tasks.core.sequences import Encoded
from tasks.core.text.programs import Span, essence, holds_program, judged, remarks
from tasks.methods.objectives.fait import marks
from tasks.methods.objectives.fait.column import CHAR, LINE, MARKS
from tasks.stages.faults.config import FaultsConfig

Encode = Callable[[Example, FaultPair | None], Encoded | None]


@dataclass(frozen=True)
class Candidate:
    """A program that may be the wrong side of a pair with an example's program."""

    example: Example
    incorrect: str
    source: str
    origin: str = ""
    """Operator of a mutation, or file and row of a given pair."""
    refused: str = ""
    """Message of a server that refused to generate a program."""
    is_cut_off: bool = False
    """True if `max_new_tokens` ended it."""


def pair(candidate: Candidate, config: FaultsConfig, encode: Encode) -> FaultPair | Unfit:
    """Return the pair of an example's program and a candidate, not yet verified, or the reason if there is none."""
    if candidate.refused:
        return Unfit("the server refuses", candidate.refused)
    if candidate.is_cut_off:  # its missing end would be marked as a mistake
        return Unfit("cut off", "it has as many tokens as `max_new_tokens` allows, and no end")
    example, incorrect = candidate.example, candidate.incorrect
    correct = judged(example, example.response)
    if (longest := max(len(correct), len(incorrect))) > config.max_chars:
        return Unfit("too long", f"{longest} characters; faults.max_chars is {config.max_chars}")
    try:
        if meaning(example, correct) == meaning(example, incorrect):
            return Unfit("equal", "nothing but comments, docstrings or layout differs")
        spans = [list(span) for span in _remarks(example, correct)]
    except SyntaxError as error:
        return Unfit("no Python", str(error))
    fault_pair = _compare(candidate, correct, incorrect)
    if fault_pair.similarity < config.similarity and fault_pair.changed_lines > config.max_lines:
        return Unfit("unlike", f"similarity {fault_pair.similarity:.2f}, {fault_pair.changed_lines} lines differ")
    encoded = encode(example, fault_pair)
    if encoded is None:
        return Unfit("control token", "a program spells a token of the model that parts turns")
    marked = _marked_tokens(encoded)
    share = sum(marked) / max(len(marked), 1)
    if not 0 < share <= config.max_marked:
        return Unfit("marks nothing" if share == 0 else "marks too much", f"{share:.0%} of the response's tokens")
    in_remarks = encode(example, replace(fault_pair, good_lines=[], good_chars=spans, anchors=[]))
    assert in_remarks
    commented = sum(map(and_, marked, _marked_tokens(in_remarks))) / sum(marked)
    return replace(fault_pair, marked=round(share, 6), commented=round(commented, 6))


def meaning(example: Example, text: str) -> str:
    """Return an answer without what cannot make it wrong: comments and layout of a program, spacing of any other answer.

    Raises SyntaxError for a program that is not valid Python.
    """
    return essence(text) if holds_program(example) else " ".join(text.split())


def _remarks(example: Example, text: str) -> list[Span]:
    return remarks(text) if holds_program(example) else []


def _marked_tokens(sequence: Encoded) -> list[bool]:
    """Return for each trained token of a sequence whether it is marked."""
    trained = [mark for mark, weight in zip(sequence.columns[MARKS], sequence.weights, strict=True) if weight > 0]
    return [int(mark) & (LINE | CHAR) > 0 for mark in trained]


def _compare(candidate: Candidate, correct: str, incorrect: str) -> FaultPair:
    """Return the pair, not yet verified. Lines are marked in programs only: an answer of one line would be marked as a whole."""
    diff = marks.compare(incorrect, correct)
    lines = holds_program(candidate.example)
    return FaultPair(
        id=content_id(candidate.example.id, incorrect),
        example=candidate.example.id,
        correct=correct,
        incorrect=incorrect,
        source=candidate.source,  # type: ignore[arg-type]
        origin=candidate.origin,
        verified=False,
        outcome="",
        similarity=round(Levenshtein.normalized_similarity(incorrect, correct), 6),
        changed_lines=max(len(diff.good_lines), len(diff.bad_lines)),
        marked=0.0,
        good_lines=list(diff.good_lines) if lines else [],
        good_chars=[list(span) for span in diff.good_chars],
        bad_lines=list(diff.bad_lines) if lines else [],
        bad_chars=[list(span) for span in diff.bad_chars],
        anchors=list(diff.anchors),
    )
