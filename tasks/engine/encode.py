"""Text to tokens: conversations through the chat template, documents as they are, each token with its weight."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.core.records import Document, Example, Message

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

    @property
    def num_trained(self) -> int:
        """Tokens that are trained: those of a weight above 0. The first token is predicted from nothing."""
        return sum(weight > 0 for weight in self.weights[1:])

    def __len__(self) -> int:
        return len(self.ids)


def examples(rows: Iterable[Example], tokenizer: Tokenizer, max_tokens: int) -> Iterator[Encoded | None]:
    """Each example as one sequence whose response, end of turn included, is trained.

    None where it is over `max_tokens`, and where it writes a control token of the model: data must not open a turn.
    Prompt and response are tokenised apart, as they are when the model writes: no token lies across their border. A token
    takes the largest weight of the characters it covers, so that no mark is lost at a token's edge.
    """
    for row in rows:
        if not is_plain(row.messages, tokenizer):
            yield None
            continue
        prompt: list[int] = tokenizer(render_prompt(row.prompt, tokenizer), add_special_tokens=False)["input_ids"]
        text = row.response + _end_of_turn(tokenizer)
        answer = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ids: list[int] = prompt + answer["input_ids"]
        if len(ids) > max_tokens:
            yield None
            continue
        weights = [0.0] * len(prompt) + [_weight(start, end, row.weights) for start, end in answer["offset_mapping"]]
        yield Encoded(row.id, ids, weights, size=len(row.response.encode()), task=row.task)


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
    return not any(token in message.content for message in messages for token in tokenizer.all_special_tokens)


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
