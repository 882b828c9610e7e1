"""Text to tokens: conversations through the chat template, documents as they are, each token with its loss weight."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import accumulate
from typing import Any

from tasks.core.records import Document, Example, Message
from tasks.core.sequences import Encoded, Encoder, Encoding, TokenizedText

Tokenizer = Any
"""A fast tokenizer of transformers."""


def examples(rows: Iterable[Example], tokenizer: Tokenizer, max_tokens: int) -> Iterator[Encoded | None]:
    """Yield each example as one sequence; None if it is longer than `max_tokens` or holds a control token of the model."""
    for row in rows:
        sequence = example(row, tokenizer)
        yield sequence if sequence is not None and len(sequence) <= max_tokens else None


def example(row: Example, tokenizer: Tokenizer) -> Encoded | None:
    """Return an example as one sequence whose response, end of turn included, is trained.

    None if it spells a control token of the model: data must not open a turn.
    Prompt and response are tokenised apart, as they are when the model writes: no token lies across their border. A token
    takes the largest weight of the characters it covers, so that no weight is lost at a token's edge.
    """
    if not is_plain(row.messages, tokenizer):
        return None
    prompt_ids = encode_prompt(row.prompt, tokenizer)
    return join(row, row.response, prompt_ids, encode_answer(row.response, tokenizer), row.weights)


def by_objective(
    rows: Iterable[Example], objective: Any, table: Iterable[Any], tokenizer: Tokenizer, max_tokens: int
) -> Iterator[Encoding]:
    """Yield each example as an objective (`tasks.engine.training.compose.Part`) encodes it, given the rows of `table` that belong to it.

    Such a row names its example's id in `example`.
    """
    table_rows: defaultdict[str, list[Any]] = defaultdict(list)
    for table_row in table:
        table_rows[table_row.example].append(table_row)
    tools = encoder(tokenizer)
    for row in rows:
        yield objective.method.encode(row, table_rows.get(row.id, ()), tools, max_tokens, objective.config)


def encoder(tokenizer: Tokenizer) -> Encoder:
    """Return the functions that an objective encodes examples with."""
    return Encoder(
        is_plain=partial(is_plain, tokenizer=tokenizer),
        prompt=partial(encode_prompt, tokenizer=tokenizer),
        answer=partial(encode_answer, tokenizer=tokenizer),
        sequence=join,
    )


def encode_prompt(messages: Sequence[Message], tokenizer: Tokenizer) -> list[int]:
    """Return the tokens of a conversation up to where the assistant begins."""
    ids: list[int] = tokenizer(render_prompt(messages, tokenizer), add_special_tokens=False)["input_ids"]
    return ids


def encode_answer(response: str, tokenizer: Tokenizer) -> TokenizedText:
    """Return a response and its end of turn in tokens."""
    text = response + _end_of_turn(tokenizer)
    batch = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    return TokenizedText(batch["input_ids"], _gapless(batch["offset_mapping"]))


def join(
    row: Example, response: str, prompt_ids: list[int], answer: TokenizedText, weights: Sequence[float] | None
) -> Encoded:
    """Return prompt and answer as one sequence, of which the answer is trained under the weights of its characters."""
    token_weights = [0.0] * len(prompt_ids) + [_weight(start, end, weights) for start, end in answer.offsets]
    return Encoded(row.id, [*prompt_ids, *answer.ids], token_weights, len(response.encode()), row.task)


def _gapless(offsets: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Extend each token's characters by those beside it that no token claims.

    Some tokenizers leave white space out of their offsets, and it is not known which neighbour holds it.
    """
    before = accumulate((end for _, end in offsets), max, initial=0)
    after = [*(start for start, _ in offsets[1:]), 0]
    return [(min(start, b), max(end, a)) for (start, end), b, a in zip(offsets, before, after, strict=False)]


def documents(rows: Iterable[Document], tokenizer: Tokenizer, max_tokens: int) -> Iterator[Encoded]:
    """Yield each document in pieces of at most `max_tokens`, every token of a piece trained but the first."""
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
    """Return whether no message spells a control token, which the tokenizer would take for a turn's beginning or end."""
    controls = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    return not any(token in message.content for message in messages for token in controls)


def render_prompt(messages: Sequence[Message], tokenizer: Tokenizer) -> str:
    """Return the conversation as the model's chat template writes it, up to where the assistant begins."""
    turns = [{"role": message.role, "content": message.content} for message in messages]
    return tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)


def _end_of_turn(tokenizer: Tokenizer) -> str:
    return tokenizer.eos_token


def _weight(start: int, end: int, weights: Sequence[float] | None) -> float:
    """Return the weight of a token over response characters [start, end); 1 if no weights are given."""
    if weights is None or start >= len(weights):
        return 1.0
    return max(weights[start : max(end, start + 1)])


def take(sequences: Iterable[Encoded], tokens: int) -> list[Encoded]:
    """Return the first sequences that together have about `tokens` tokens."""
    taken: list[Encoded] = []
    for sequence in sequences:
        if tokens <= 0:
            break
        taken.append(sequence)
        tokens -= len(sequence)
    return taken
