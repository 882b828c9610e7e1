"""Whether two programs make a pair to learn from, and the pair with its marks."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from operator import and_

from rapidfuzz.distance import Levenshtein

from tasks.core.programs import essence, program, remarks
from tasks.core.records import Example, FaultPair, Unfit, content_id
from tasks.core.sequences import Encoded
from tasks.methods.objectives.fait import marks
from tasks.methods.objectives.fait.column import CHAR, LINE, MARKS
from tasks.stages.faults.params import FaultsParams

Encode = Callable[[Example, FaultPair | None], Encoded | None]


@dataclass(frozen=True)
class Candidate:
    """A program that may be the wrong counterpart of an example's."""

    example: Example
    incorrect: str
    source: str
    origin: str = ""
    """What a mutation did, or where a given pair stands."""
    refused: str = ""
    """What a server said that would write none."""


def pair(candidate: Candidate, params: FaultsParams, encode: Encode) -> FaultPair | Unfit:
    """The pair of an example's program and a candidate, not yet verified, or why there is none."""
    if candidate.refused:
        return Unfit("the server refuses", candidate.refused)
    correct, incorrect = program(candidate.example.response), candidate.incorrect
    if (longest := max(len(correct), len(incorrect))) > params.max_chars:
        return Unfit("too long", f"{longest} characters; faults.max_chars is {params.max_chars}")
    try:
        if essence(correct) == essence(incorrect):
            return Unfit("equal", "nothing but comments, docstrings or layout differs")
        spans = [list(span) for span in remarks(correct)]
    except SyntaxError as error:
        return Unfit("no Python", str(error))
    found = _pair(candidate, correct, incorrect)
    if found.similarity < params.similarity and found.changed_lines > params.max_lines:
        return Unfit("unlike", f"similarity {found.similarity:.2f}, {found.changed_lines} lines differ")
    encoded = encode(candidate.example, found)
    if encoded is None:
        return Unfit("control token", "a program spells a token of the model that parts turns")
    carried = _carried(encoded)
    share = sum(carried) / max(len(carried), 1)
    if not 0 < share <= params.max_marked:
        return Unfit("marks nothing" if share == 0 else "marks too much", f"{share:.0%} of the response's tokens")
    in_remarks = encode(candidate.example, replace(found, good_lines=[], good_chars=spans, anchors=[]))
    assert in_remarks
    commented = sum(map(and_, carried, _carried(in_remarks))) / sum(carried)
    return replace(found, marked=round(share, 6), commented=round(commented, 6))


def _carried(sequence: Encoded) -> list[bool]:
    """Whether each trained token of a sequence carries a mark."""
    trained = [mark for mark, weight in zip(sequence.columns[MARKS], sequence.weights, strict=True) if weight > 0]
    return [int(mark) & (LINE | CHAR) > 0 for mark in trained]


def _pair(candidate: Candidate, correct: str, incorrect: str) -> FaultPair:
    found = marks.compare(incorrect, correct)
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
        changed_lines=max(len(found.good_lines), len(found.bad_lines)),
        marked=0.0,
        good_lines=list(found.good_lines),
        good_chars=[list(span) for span in found.good_chars],
        bad_lines=list(found.bad_lines),
        bad_chars=[list(span) for span in found.bad_chars],
        anchors=list(found.anchors),
    )
