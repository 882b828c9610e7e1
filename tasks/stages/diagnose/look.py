"""Which examples are looked at, and why the others are not."""

from collections.abc import Callable, Sequence

from tasks.core.records import Example, Message, content_id
from tasks.core.sequences import Encoded

EMPTY = "empty response"
CONTROL = "control token"
LONG = "too long"
LEFT = "not looked at"
NOT_FINITE = "loss is not finite"


def look(
    examples: Sequence[Example], encode: Callable[[Example], Encoded | None], longest: int, max_tokens: int, seed: int
) -> tuple[list[Encoded], dict[str, str]]:
    """Sequences of together about `max_tokens` tokens, and why each of the other examples is none, by id.

    `encode` gives None for an example that writes a control token of the model. The order is drawn from `seed` and ids alone,
    so that the same examples are looked at wherever they stand.
    """
    looked_at: list[Encoded] = []
    excluded: dict[str, str] = {}
    left = max_tokens
    for example in sorted(examples, key=lambda example: content_id(str(seed), example.id)):
        if left <= 0:
            excluded[example.id] = LEFT
        elif isinstance(found := _fit(example, encode, longest), str):
            excluded[example.id] = found
        else:
            looked_at.append(found)
            left -= len(found)
    return looked_at, excluded


def _fit(example: Example, encode: Callable[[Example], Encoded | None], longest: int) -> Encoded | str:
    if not example.response.strip():
        return EMPTY
    sequence = encode(example)
    if sequence is None:
        return CONTROL
    return sequence if len(sequence) <= longest else LONG


def transcript(messages: Sequence[Message]) -> str:
    """A conversation as plain text; a single message as it is."""
    if len(messages) == 1:
        return messages[0].content
    return "\n\n".join(f"{message.role}: {message.content}" for message in messages)
