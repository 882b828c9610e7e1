"""Text to tokens: conversations through the chat template, documents as they are, each token with its weight."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from types import MappingProxyType
from typing import Any

from tasks.core import marks
from tasks.core.marks import DEFAULT, Marking
from tasks.core.programs import locate
from tasks.core.records import Document, Example, FaultPair, Message

Tokenizer = Any
"""A fast tokenizer of transformers."""


@dataclass(frozen=True)
class Encoded:
    """One sequence. `weights[i]` is the loss weight of predicting `ids[i]`; 0 is context that trains nothing."""

    id: str
    ids: list[int]
    weights: list[float]
    size: int = 0
    """UTF-8 bytes of the text that is trained."""
    task: str = ""
    marks: Sequence[int] = ()
    """What each token is to the fault of its program, flags of `tasks.core.marks`; none means 0 for all."""
    contrasts: tuple["Encoded", ...] = ()
    """The same prompt with wrong programs."""
    number: int = 0
    """Its place among all that train."""

    @property
    def num_trained(self) -> int:
        """Tokens that are trained: those of a weight above 0. The first token is predicted from nothing."""
        return sum(weight > 0 for weight in self.weights[1:])

    def __len__(self) -> int:
        return len(self.ids)


def examples(
    rows: Iterable[Example],
    tokenizer: Tokenizer,
    max_tokens: int,
    faults: Mapping[str, Sequence[FaultPair]] = MappingProxyType({}),
    marking: Marking = DEFAULT,
) -> Iterator[Encoded | None]:
    """Each example as one sequence whose response, end of turn included, is trained. Where it has `faults`, by its id, it is one
    for each of them, or one for all, as `marking` says.

    None where it is over `max_tokens`, and where it writes a control token of the model: data must not open a turn.
    Prompt and response are tokenised apart, as they are when the model writes: no token lies across their border. A token
    takes the largest weight of the characters it covers, so that no mark is lost at a token's edge.
    """
    for row in rows:
        own = faults.get(row.id, ())
        for pairs in [own] if marking.union or not own else [[pair] for pair in own]:
            sequence = example(row, tokenizer, pairs, marking)
            if sequence is not None and any(len(contrast) > max_tokens for contrast in sequence.contrasts):
                # A fault that no pack can hold is no reason to leave out what is right.
                fitting = [p for p, c in zip(pairs, sequence.contrasts, strict=True) if len(c) <= max_tokens]
                sequence = example(row, tokenizer, fitting, marking)
            yield sequence if sequence is not None and len(sequence) <= max_tokens else None


def example(
    row: Example, tokenizer: Tokenizer, pairs: Sequence[FaultPair] = (), marking: Marking = DEFAULT
) -> Encoded | None:
    """An example as one sequence; with pairs its tokens have the marks of all, and the wrong programs are its contrasts."""
    if not is_plain([*row.messages, *(Message("assistant", pair.incorrect) for pair in pairs)], tokenizer):
        return None
    prompt = tokenizer(render_prompt(row.prompt, tokenizer), add_special_tokens=False)["input_ids"]
    right = _answer(row.response, tokenizer)
    sequence = _sequence(row, row.response, prompt, right, row.weights)
    start, end = locate(row.response)
    for pair in pairs:
        response = row.response[:start] + pair.incorrect + row.response[end:]
        wrong = _answer(response, tokenizer)
        good, bad = _sides(pair, right, wrong, start, marking)
        contrast = _sequence(row, response, prompt, wrong, None)
        contrast = replace(contrast, marks=[0] * len(prompt) + _flags(wrong, bad, start))
        flags = [0] * len(prompt) + _flags(right, good, start)
        together = [mark | flag for mark, flag in zip(sequence.marks or [0] * len(flags), flags, strict=True)]
        sequence = replace(sequence, marks=together, contrasts=(*sequence.contrasts, contrast))
    return sequence


@dataclass(frozen=True)
class _Side:
    """One side of a pair: its program, and what of it differs by line, by character, and by token of the answer it stands in."""

    program: str
    lines: Sequence[int]
    chars: Sequence[marks.Span] = ()
    tokens: Sequence[int] = ()


def _sides(
    pair: FaultPair, right: marks.Tokens, wrong: marks.Tokens, start: int, marking: Marking
) -> tuple[_Side, _Side]:
    """The correct side and the other. Where text was only taken away, what comes after it stands for it."""
    if marking.granularity == "token_id":
        blocks = marks.blocks(pair.incorrect, pair.correct)
        bad, good, anchors = marks.of_ids(wrong, right, blocks, start)
        tokens = [*good, *anchors] if marking.anchors else good
        return _Side(pair.correct, pair.good_lines, tokens=tokens), _Side(pair.incorrect, pair.bad_lines, tokens=bad)
    chars = [(first, last) for first, last in pair.good_chars]
    if marking.anchors:
        chars += [(place, place + 1) for place in pair.anchors]
    theirs = [(first, last) for first, last in pair.bad_chars]
    return _Side(pair.correct, pair.good_lines, chars), _Side(pair.incorrect, pair.bad_lines, theirs)


def _answer(response: str, tokenizer: Tokenizer) -> marks.Tokens:
    """A response and its end of turn in tokens."""
    text = response + _end_of_turn(tokenizer)
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    return marks.Tokens(found["input_ids"], _gapless(found["offset_mapping"]))


def _sequence(
    row: Example, response: str, prompt: list[int], answer: marks.Tokens, weights: Sequence[float] | None
) -> Encoded:
    own = [0.0] * len(prompt) + [_weight(start, end, weights) for start, end in answer.offsets]
    return Encoded(row.id, [*prompt, *answer.ids], own, len(response.encode()), row.task)


def _gapless(offsets: Sequence[marks.Span]) -> list[marks.Span]:
    """Each token's characters with those beside it that no token claims: some tokenizers hide the white space of tokens, and
    whose it was cannot be told."""
    before = accumulate((end for _, end in offsets), max, initial=0)
    after = [*(start for start, _ in offsets[1:]), 0]
    return [(min(start, b), max(end, a)) for (start, end), b, a in zip(offsets, before, after, strict=False)]


def _flags(answer: marks.Tokens, side: _Side, start: int) -> list[int]:
    """What each token of an answer is to the fault of the program that stands in it from `start` on."""
    layers = {
        marks.LINE: marks.of_lines(side.program, side.lines),
        marks.CHAR: side.chars,
        marks.CODE: [(0, len(side.program))],
    }
    length = max(end for _, end in answer.offsets)
    shifted = {flag: [(first + start, last + start) for first, last in spans] for flag, spans in layers.items()}
    found = [flag * marks.of_tokens(spans, answer.offsets, length).astype(int) for flag, spans in shifted.items()]
    flags = [sum(flags) for flags in zip(*(layer.tolist() for layer in found), strict=True)]
    for place in side.tokens:
        flags[place] |= marks.CHAR
    return flags


def documents(rows: Iterable[Document], tokenizer: Tokenizer, max_tokens: int) -> Iterator[Encoded]:
    """Each document cut into sequences of at most `max_tokens`, every token trained but the first of a piece."""
    for row in rows:
        batch = tokenizer(row.text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True)
        ids, offsets = batch["input_ids"], batch["offset_mapping"]
        for start in range(0, len(ids), max_tokens):
            piece, places = ids[start : start + max_tokens], offsets[start : start + max_tokens]
            if len(piece) > 1:
                trained = row.text[places[1][0] : places[-1][1]]
                weights = [0.0] + [1.0] * (len(piece) - 1)
                yield Encoded(row.id, piece, weights, size=len(trained.encode()), task=row.domain)


def is_plain(messages: Sequence[Message], tokenizer: Tokenizer) -> bool:
    """Whether no message spells a control token, which the tokenizer would take for a turn's beginning or end."""
    controls = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    return not any(token in message.content for message in messages for token in controls)


def render_prompt(messages: Sequence[Message], tokenizer: Tokenizer) -> str:
    """The conversation as the model's chat template writes it, up to where the assistant begins."""
    turns = [{"role": message.role, "content": message.content} for message in messages]
    return tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)


def _end_of_turn(tokenizer: Tokenizer) -> str:
    return tokenizer.eos_token


def _weight(start: int, end: int, weights: Sequence[float] | None) -> float:
    """The weight of a token over response characters [start, end); 1 where no weights are given."""
    if weights is None or start >= len(weights):
        return 1.0
    return max(weights[start : max(end, start + 1)])


def take(sequences: Iterable[Encoded], tokens: int) -> list[Encoded]:
    """The first sequences that together have about `tokens` tokens."""
    taken: list[Encoded] = []
    for sequence in sequences:
        if tokens <= 0:
            break
        taken.append(sequence)
        tokens -= len(sequence)
    return taken
