"""Text to tokens: conversations through the chat template, documents as they are, each token with its weight."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from types import MappingProxyType
from typing import Any, Self

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
    contrast: "Encoded | None" = None
    """The same prompt with a wrong program."""
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
    """Each example as one sequence whose response, end of turn included, is trained; one for each of its `faults`, by its id.

    None where it is over `max_tokens`, and where it writes a control token of the model: data must not open a turn.
    Prompt and response are tokenised apart, as they are when the model writes: no token lies across their border. A token
    takes the largest weight of the characters it covers, so that no mark is lost at a token's edge.
    """
    for row in rows:
        for pair in faults.get(row.id, (None,)):
            sequence = example(row, tokenizer, pair, marking)
            if sequence is not None and sequence.contrast and len(sequence.contrast) > max_tokens:
                sequence = example(
                    row, tokenizer
                )  # a fault that no pack can hold is no reason to leave out what is right
            yield sequence if sequence is not None and len(sequence) <= max_tokens else None


def example(
    row: Example, tokenizer: Tokenizer, pair: FaultPair | None = None, marking: Marking = DEFAULT
) -> Encoded | None:
    """An example as one sequence; with a pair its tokens are marked and the wrong program is its contrast."""
    if not is_plain([*row.messages, *([Message("assistant", pair.incorrect)] if pair else [])], tokenizer):
        return None
    if pair is None:
        return _sequence(row, row.response, tokenizer, row.weights)
    start, end = locate(row.response)
    wrong = row.response[:start] + pair.incorrect + row.response[end:]
    contrast = _sequence(row, wrong, tokenizer, None, Marked.bad(pair), start)
    return replace(
        _sequence(row, row.response, tokenizer, row.weights, Marked.good(pair, marking), start), contrast=contrast
    )


@dataclass(frozen=True)
class Marked:
    """One side of a pair: its program, and the characters that differ by line and one by one."""

    program: str
    lines: Sequence[int]
    chars: Sequence[marks.Span]

    @classmethod
    def good(cls, pair: FaultPair, marking: Marking) -> Self:
        """The correct side. Where text was only taken away, the character after it stands for it."""
        anchors = [(place, place + 1) for place in pair.anchors] if marking.anchors else []
        return cls(pair.correct, pair.good_lines, [(start, end) for start, end in pair.good_chars] + anchors)

    @classmethod
    def bad(cls, pair: FaultPair) -> Self:
        return cls(pair.incorrect, pair.bad_lines, [(start, end) for start, end in pair.bad_chars])


def _sequence(
    row: Example,
    response: str,
    tokenizer: Tokenizer,
    weights: Sequence[float] | None,
    marked: Marked | None = None,
    start: int = 0,
) -> Encoded:
    prompt: list[int] = tokenizer(render_prompt(row.prompt, tokenizer), add_special_tokens=False)["input_ids"]
    text = response + _end_of_turn(tokenizer)
    answer = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    offsets = _gapless(answer["offset_mapping"])
    flags = [0] * len(prompt) + _flags(len(text), offsets, marked, start) if marked else ()
    own = [0.0] * len(prompt) + [_weight(start, end, weights) for start, end in offsets]
    return Encoded(row.id, prompt + answer["input_ids"], own, len(response.encode()), row.task, flags)


def _gapless(offsets: Sequence[marks.Span]) -> list[marks.Span]:
    """Each token's characters with those beside it that no token claims: some tokenizers hide the white space of tokens, and
    whose it was cannot be told."""
    before = accumulate((end for _, end in offsets), max, initial=0)
    after = [*(start for start, _ in offsets[1:]), 0]
    return [(min(start, b), max(end, a)) for (start, end), b, a in zip(offsets, before, after, strict=False)]


def _flags(length: int, offsets: Sequence[marks.Span], marked: Marked, start: int) -> list[int]:
    """What each token of a response of `length` characters is to the fault of the program that stands in it from `start` on."""
    layers = {
        marks.LINE: marks.of_lines(marked.program, marked.lines),
        marks.CHAR: marked.chars,
        marks.CODE: [(0, len(marked.program))],
    }
    shifted = {flag: [(first + start, last + start) for first, last in spans] for flag, spans in layers.items()}
    found = [flag * marks.of_tokens(spans, offsets, length).astype(int) for flag, spans in shifted.items()]
    return [sum(flags) for flags in zip(*(layer.tolist() for layer in found), strict=True)]


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
