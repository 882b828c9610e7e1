"""Choose the examples to diagnose, with a reason for each excluded one."""

from collections.abc import Callable, Sequence

from tasks.core.records import Example, Message, content_id
from tasks.core.sequences import Encoded

EMPTY = "empty response"
UNDESIRABLE = "undesirable response"
CONTROL = "control token"
LONG = "too long"
OVER_BUDGET = "not looked at"
NOT_FINITE = "loss is not finite"


def screen(
    examples: Sequence[Example], encode: Callable[[Example], Encoded | None], longest: int, max_tokens: int, seed: int
) -> tuple[list[Encoded], dict[str, str]]:
    """Return encoded sequences of about `max_tokens` tokens together, and for each excluded example the reason, by id.

    Of a conversation the last answer is looked at. `encode` returns None for an example that contains a control token of the model.
    The order follows from `seed` and the ids, so the choice does not depend on the order of the examples.
    """
    screened: list[Encoded] = []
    excluded: dict[str, str] = {}
    remaining = max_tokens
    for example in sorted(examples, key=lambda example: content_id(str(seed), example.id)):
        if remaining <= 0:
            excluded[example.id] = OVER_BUDGET
        elif isinstance(fitted := _fit(example, encode, longest), str):
            excluded[example.id] = fitted
        else:
            screened.append(fitted)
            remaining -= len(fitted)
    return screened, excluded


def _fit(example: Example, encode: Callable[[Example], Encoded | None], longest: int) -> Encoded | str:
    if not example.response.strip() and not example.messages[-1].tool_calls:
        return EMPTY
    if example.desirable is False:
        return UNDESIRABLE
    sequence = encode(example)
    if sequence is None:
        return CONTROL
    return sequence if len(sequence) <= longest else LONG


def transcript(messages: Sequence[Message]) -> str:
    """Return a conversation as plain text; a single message without its role."""
    if len(messages) == 1:
        return messages[0].content
    return "\n\n".join(f"{message.role}: {' '.join(message.texts)}" for message in messages)
