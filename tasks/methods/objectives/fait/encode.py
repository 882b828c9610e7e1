"""Encode an example with its fault pairs: the correct program with its marks, the incorrect ones as auxiliary sequences."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tasks.core.records import Example, FaultPair
from tasks.core.sequences import Encoded, Encoder, Encoding, TokenizedText
from tasks.core.text.programs import Span, locate_judged, response_with
from tasks.methods.objectives.fait import marks
from tasks.methods.objectives.fait.column import CHAR, CODE, LINE, MARKS
from tasks.methods.objectives.fait.marks import DEFAULT, Marking


def encode_pairs(
    row: Example, pairs: Sequence[FaultPair], encoder: Encoder, max_tokens: int, marking: Marking = DEFAULT
) -> Encoding:
    """Return an example as one sequence for each of its pairs, or one for all of them if `marking.union`.

    A pair whose incorrect program no pack can hold is not used: its example trains without these marks.
    """
    groups = [pairs] if marking.union or not pairs else [[pair] for pair in pairs]
    sequences: list[Encoded | None] = []
    unused = 0
    for group in groups:
        sequence = encode_example(row, group, encoder, marking)
        if sequence is not None and len(sequence) > max_tokens:
            sequence = None
        if sequence is not None:
            fitting = [p for p, wrong in zip(group, sequence.auxiliary, strict=True) if len(wrong) <= max_tokens]
            unused += len(group) - len(fitting)
            sequence = sequence if len(fitting) == len(group) else encode_example(row, fitting, encoder, marking)
        sequences.append(sequence)
    return Encoding(sequences, unused)


def encode_example(
    row: Example, pairs: Sequence[FaultPair], encoder: Encoder, marking: Marking = DEFAULT
) -> Encoded | None:
    """Return an example as one sequence with the marks of all pairs; None if a program contains the text of a control token."""
    faulty = [row.with_response(response_with(row, pair.incorrect)) for pair in pairs]
    if not all(map(encoder.is_plain, [row, *faulty])):
        return None
    correct = encoder.conversation(row)
    sequence = encoder.sequence(row, correct)
    if not pairs:
        return sequence
    start, _ = locate_judged(row, row.response)
    num_context = len(correct.context)
    flags = [0] * len(sequence)
    auxiliary = []
    for pair, faulty_row in zip(pairs, faulty, strict=True):
        incorrect = encoder.conversation(faulty_row).without_earlier_answers()
        good, bad = _sides(pair, correct.answer, incorrect.answer, start, marking)
        wrong = encoder.sequence(faulty_row, incorrect)
        bad_flags = [0] * len(incorrect.context) + _flags(incorrect.answer, bad, start)
        auxiliary.append(replace(wrong, columns={MARKS: bad_flags}))
        of_pair = [0] * num_context + _flags(correct.answer, good, start)
        flags = [mark | flag for mark, flag in zip(flags, of_pair, strict=True)]
    return replace(sequence, columns={MARKS: flags}, auxiliary=tuple(auxiliary))


@dataclass(frozen=True)
class _Side:
    """One program of a pair, and its differing parts: lines, characters, and tokens of the answer that holds it."""

    program: str
    lines: Sequence[int]
    chars: Sequence[Span] = ()
    tokens: Sequence[int] = ()


def _sides(
    pair: FaultPair, correct: TokenizedText, incorrect: TokenizedText, start: int, marking: Marking
) -> tuple[_Side, _Side]:
    """Return the correct side and the incorrect one. The anchor of deleted text is the character after it."""
    if marking.granularity == "token_id":
        blocks = marks.blocks(pair.incorrect, pair.correct)
        bad, good, anchors = marks.of_ids(incorrect, correct, blocks, start)
        tokens = [*good, *anchors] if marking.anchors else good
        return _Side(pair.correct, pair.good_lines, tokens=tokens), _Side(pair.incorrect, pair.bad_lines, tokens=bad)
    good_chars = [(first, last) for first, last in pair.good_chars]
    if marking.anchors:
        good_chars += [(place, place + 1) for place in pair.anchors]
    bad_chars = [(first, last) for first, last in pair.bad_chars]
    return _Side(pair.correct, pair.good_lines, good_chars), _Side(pair.incorrect, pair.bad_lines, bad_chars)


def _flags(answer: TokenizedText, side: _Side, start: int) -> list[int]:
    """Return the flags of each token of an answer whose program begins at character `start`."""
    layers = {
        LINE: marks.of_lines(side.program, side.lines),
        CHAR: side.chars,
        CODE: [(0, len(side.program))],
    }
    length = max(end for _, end in answer.offsets)
    shifted = {flag: [(first + start, last + start) for first, last in spans] for flag, spans in layers.items()}
    masks = [flag * marks.of_tokens(spans, answer.offsets, length).astype(int) for flag, spans in shifted.items()]
    flags = [sum(of_token) for of_token in zip(*(mask.tolist() for mask in masks), strict=True)]
    for place in side.tokens:
        flags[place] |= CHAR
    return flags
