"""Text to tokens: conversations through the chat template, documents as they are, each token with its loss weight."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import accumulate, pairwise
from typing import Any, overload

from tasks.core.records import Document, Example, Message
from tasks.core.sequences import Column, Conversation, Encoded, Encoder, Encoding, TokenizedText
from tasks.core.training import TrainOn
from tasks.core.weights.control_tokens import control_tokens
from tasks.engine.chat_template import ChatTemplateError, Tokenizer, WrittenAnswer, written_answer
from tasks.io.token_store import Tokenized
from tasks.methods.objectives import REFERENCE


@dataclass(frozen=True)
class ExampleEncoder:
    """Turns each example into sequences, and keeps those that fit into a pack and have trained tokens."""

    tokenizer: Tokenizer
    pack_tokens: int
    train_on: TrainOn = "last"
    """The answers that are trained on."""
    objective: Any = None
    """The objective (`tasks.engine.training.compose.Part`), if there is one. Its `encode`, if it has one, makes the sequences."""
    rows_of_table: Iterable[Any] = ()
    """The rows of the objective's table, each of which names its example's id in `example`."""
    context: int | None = None
    """The most tokens of one text that the model reads, at which an objective's link is cut off; None for no limit."""

    def __call__(self, row: Example) -> Tokenized:
        """Return the sequences of an example, and the number of those that are left out."""
        encoding = self.encoding(row)
        kept = [s for s in encoding.sequences if s is not None and len(s) <= self.pack_tokens and s.num_trained]
        too_long = sum(s is not None and len(s) > self.pack_tokens for s in encoding.sequences)
        if None in encoding.sequences and row.desirable is not False and is_plain_example(row, self.tokenizer):
            too_long += list(encoding.sequences).count(None)  # length is the only reason left
        unusable = len(encoding.sequences) - len(kept) - too_long
        return Tokenized(kept, row.domain, too_long, unusable, encoding.unused if kept else 0)

    def encoding(self, row: Example) -> Encoding:
        """Return an example as the objective encodes it; without such an objective, each answer that trains.

        An objective that compares answers reads the last answer alone. For others, earlier answers that the conversation leaves without weight
        come as sequences of their own.
        """
        if not self._is_by_objective:
            return Encoding(training_sequences(row, self.tokenizer, self.train_on))
        tools = encoder(self.tokenizer, self.train_on)
        of_table = self._table.get(row.id, ())
        encoding: Encoding = self.objective.method.encode(row, of_table, tools, self.pack_tokens, self.objective.config)
        if self.objective.spec.of_answers:
            return encoding
        earlier = training_sequences(row, self.tokenizer, self.train_on)[:-1]
        return replace(encoding, sequences=[*earlier, *encoding.sequences])

    @property
    def columns(self) -> Sequence[Column]:
        """Return the columns that sequences may have."""
        columns = self.objective.spec.columns if self._is_by_objective else ()
        return [column for column in columns if column is not REFERENCE]  # it is measured later

    @property
    def settings(self) -> dict[str, Any]:
        """Return what determines the sequences besides tokenizer, rows and code."""
        settings: dict[str, Any] = {"pack_tokens": self.pack_tokens, "train_on": self.train_on}
        if self._is_by_objective:
            settings["objective"] = [self.objective.name, self.objective.config.model_dump(mode="json")]
        return settings

    @property
    def modules(self) -> list[str]:
        """Return the modules, besides this one, whose code determines the sequences."""
        return [f"tasks.methods.objectives.{self.objective.name}.method"] if self._is_by_objective else []

    @property
    def _is_by_objective(self) -> bool:
        """Return whether the objective makes the sequences; otherwise they are the same for all objectives."""
        return self.objective is not None and self.objective.method.encode is not None

    @cached_property
    def _table(self) -> Mapping[str, Sequence[Any]]:
        table: defaultdict[str, list[Any]] = defaultdict(list)
        for of_table in self.rows_of_table:
            table[of_table.example].append(of_table)
        return table


@dataclass(frozen=True)
class DocumentEncoder:
    """Cuts each document into pieces that a pack can hold."""

    tokenizer: Tokenizer
    pack_tokens: int
    columns: Sequence[Column] = ()
    modules: Sequence[str] = ()

    def __call__(self, row: Document) -> Tokenized:
        """Return the pieces of a document."""
        return Tokenized(list(documents([row], self.tokenizer, self.pack_tokens)), row.domain)

    @property
    def settings(self) -> dict[str, Any]:
        """Return what determines the pieces besides tokenizer, rows and code."""
        return {"pack_tokens": self.pack_tokens}


def examples(rows: Iterable[Example], tokenizer: Tokenizer, max_tokens: int) -> Iterator[Encoded | None]:
    """Yield each example as one sequence whose last answer is trained.

    Yields None for a sequence that is longer than `max_tokens`, and where `example` returns None.
    """
    for row in rows:
        sequence = example(row, tokenizer)
        yield sequence if sequence is not None and len(sequence) <= max_tokens else None


def example(row: Example, tokenizer: Tokenizer) -> Encoded | None:
    """Return an example as one sequence whose last answer, end of turn included, is trained; everything before it is context.

    None if the example contains the text of one of the model's control tokens, since data must not open a turn, or if its answer is judged
    undesirable. The tokens are those of the chat template up to the end of the last turn. A token takes the largest weight of the
    characters that it covers, so that no weight is lost at a token's edge.
    """
    if row.desirable is False or not is_plain_example(row, tokenizer):
        return None
    return join(row, conversation(row, tokenizer))


def training_sequences(row: Example, tokenizer: Tokenizer, train_on: TrainOn) -> list[Encoded | None]:
    """Return the sequences of an example whose answers `train_on` names: one, unless the template forbids it.

    Some templates write a past answer differently from the answer that comes next (they leave its reasoning out). Each answer then has a
    sequence of its own, with the context that the model would have when served.
    """
    if row.desirable is False or not is_plain_example(row, tokenizer):
        return [None]
    ends = _answered(row, train_on)
    if len(ends) == 1 or _is_one_text(_written(row, ends, tokenizer)):
        return [join(row, conversation(row, tokenizer, train_on))]
    earlier = [replace(row, messages=row.messages[:end], weights=None) for end in ends[:-1]]
    return [join(part, conversation(part, tokenizer)) for part in (*earlier, row)]


def encoder(tokenizer: Tokenizer, train_on: TrainOn = "last") -> Encoder:
    """Return the functions that an objective encodes examples with."""
    return Encoder(
        is_plain=partial(is_plain_example, tokenizer=tokenizer),
        conversation=partial(conversation, tokenizer=tokenizer, train_on=train_on),
        sequence=join,
    )


def conversation(row: Example, tokenizer: Tokenizer, train_on: TrainOn = "last") -> Conversation:
    """Return an example's conversation in the tokens of the chat template, up to the end of its last turn.

    Earlier answers have no weight where the template writes them differently from an answer that comes next.
    Raises ValueError with the example's source if the template cannot render the conversation.
    """
    written = _written(row, _answered(row, train_on), tokenizer)
    written = written if _is_one_text(written) else written[-1:]
    last = written[-1]
    borders = [border for answer in written for border in (len(answer.prompt), len(answer.up_to_here))]
    tokens, cuts = _cut_at(last.up_to_here, borders, tokenizer)
    start = cuts[-2]
    weights = [0.0] * start
    for first, end in zip(cuts[:-2:2], cuts[1:-2:2], strict=True):
        weights[first:end] = [1.0] * (end - first)
    origin = borders[-2] + last.start
    size = sum(_bytes_of(row.messages[end - 1]) for end in _answered(row, train_on)[-len(written) :])
    answer = TokenizedText(tokens.ids[start:], _Offsets(tokens.offsets, start, origin))
    return Conversation(tokens.ids[:start], weights, answer, size)


def _bytes_of(answer: Message) -> int:
    """Return the bytes of an answer's text and of its tool calls; an answer may consist of calls alone."""
    calls = [part for call in answer.tool_calls or () for part in (call.name, call.arguments)]
    return sum(len(text.encode()) for text in (answer.content, *calls))


def join(row: Example, tokens: Conversation) -> Encoded:
    """Return a conversation as one sequence, whose last answer is trained with the weights of the example's characters."""
    ids = [*tokens.context, *tokens.answer.ids]
    if row.weights is None:
        weights = [1.0] * len(tokens.answer.ids)
    else:
        weights = [_weight(start, end, row.weights) for start, end in tokens.answer.offsets]
    return Encoded(row.id, ids, [*tokens.context_weights, *weights], tokens.size, row.task, row.domain)


def _answered(row: Example, train_on: TrainOn) -> list[int]:
    """Return the number of messages up to and with each answer that trains."""
    context = row.context_answers or ()
    ends = [
        end for end, message in enumerate(row.messages, 1) if message.role == "assistant" and end - 1 not in context
    ]
    return ends if train_on == "all" else ends[-1:]


def _written(row: Example, ends: Sequence[int], tokenizer: Tokenizer) -> list[WrittenAnswer]:
    try:
        return [written_answer(row.messages[:end], tokenizer, row.tools) for end in ends]
    except ChatTemplateError as error:
        raise ValueError(
            f"{row.source}: the chat template of the model cannot format this conversation: {error}. Choose a model whose template "
            "can (tool calls: Qwen2.5, Llama 3.1, Hermes 3 and their successors), or leave such rows out of `ingest.sources`."
        ) from error


def _is_one_text(written: Sequence[WrittenAnswer]) -> bool:
    """Return True if the text up to the last answer holds every earlier answer exactly as the model is to write it."""
    return all(written[-1].up_to_here.startswith(answer.up_to_here) for answer in written)


def _cut_at(text: str, borders: Sequence[int], tokenizer: Tokenizer) -> tuple[TokenizedText, list[int]]:
    """Return a text in tokens, and the number of tokens before each of its `borders`, which are character offsets; the last is its end.

    The text is tokenised as a whole, as it is in serving. If a token would cross a border, the text is tokenised in pieces between the
    borders instead, because what the model has read when it begins to write ends at a border.
    """

    def tokens_of(part: str) -> TokenizedText:
        batch = tokenizer(part, add_special_tokens=False, return_offsets_mapping=True)
        return TokenizedText(batch["input_ids"], batch["offset_mapping"])

    tokens = tokens_of(text)
    heads = [tokens_of(text[:border]).ids for border in borders[:-1]]
    if all(tokens.ids[: len(head)] == head for head in heads):
        return tokens, [*map(len, heads), len(tokens.ids)]
    spans = list(pairwise([0, *borders]))
    pieces = [tokens_of(text[start:end]) for start, end in spans]
    offsets = [
        (first + start, last + start)
        for piece, (start, _) in zip(pieces, spans, strict=True)
        for first, last in piece.offsets
    ]
    return TokenizedText([token for piece in pieces for token in piece.ids], offsets), list(
        accumulate(len(piece.ids) for piece in pieces)
    )


class _Offsets(Sequence[tuple[int, int]]):
    """The character ranges of an answer's tokens, without gaps, computed on first access, since most objectives do not need them."""

    def __init__(self, offsets: Sequence[tuple[int, int]], start: int, origin: int) -> None:
        """Take the ranges of `offsets` from token `start` on, and count characters from `origin`."""
        self._offsets, self._start, self._origin = offsets, start, origin

    @overload
    def __getitem__(self, place: int) -> tuple[int, int]: ...
    @overload
    def __getitem__(self, place: slice) -> list[tuple[int, int]]: ...
    def __getitem__(self, place: int | slice) -> tuple[int, int] | list[tuple[int, int]]:
        return self._all[place]

    def __len__(self) -> int:
        return len(self._offsets) - self._start

    @cached_property
    def _all(self) -> list[tuple[int, int]]:
        origin = self._origin
        return _gapless([(first - origin, end - origin) for first, end in self._offsets[self._start :]])


def _gapless(offsets: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Extend each token's character range over adjacent characters that belong to no token.

    Some tokenizers leave white space out of their offsets, and it is not known which of the two neighbours holds it.
    """
    before = accumulate((end for _, end in offsets), max, initial=0)
    after = [*(start for start, _ in offsets[1:]), 0]
    return [(min(start, b), max(end, a)) for (start, end), b, a in zip(offsets, before, after, strict=False)]


def documents(rows: Iterable[Document], tokenizer: Tokenizer, max_tokens: int) -> Iterator[Encoded]:
    """Yield each document in pieces of at most `max_tokens`; every token of a piece except the first is trained."""
    for row in rows:
        batch = tokenizer(row.text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True)
        ids, offsets = batch["input_ids"], batch["offset_mapping"]
        for start in range(0, len(ids), max_tokens):
            piece, places = ids[start : start + max_tokens], offsets[start : start + max_tokens]
            if len(piece) > 1:
                trained = row.text[places[1][0] : places[-1][1]]
                weights = [0.0] + [1.0] * (len(piece) - 1)
                yield Encoded(row.id, piece, weights, size=len(trained.encode()), task=row.domain, domain=row.domain)


def is_plain(messages: Sequence[Message], tokenizer: Tokenizer, tools: str | None = None) -> bool:
    """Return whether no message and no tool contains the text of a control token, which the tokenizer would read as a turn's start or end."""
    controls = control_tokens(tokenizer)
    texts = [tools or "", *(text for message in messages for text in message.texts)]
    return not any(token in text for text in texts for token in controls)


def is_plain_example(row: Example, tokenizer: Tokenizer) -> bool:
    """Return whether neither the messages of an example nor its tools contain the text of a control token."""
    return is_plain(row.messages, tokenizer, row.tools)


def _weight(start: int, end: int, weights: Sequence[float]) -> float:
    """Return the weight of a token over response characters [start, end); 1 for a token outside the response."""
    if start >= len(weights) or end < 0:
        return 1.0
    start = max(start, 0)
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
