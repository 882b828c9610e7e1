"""Choose the examples to diagnose, with a reason for each excluded one."""

from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass

from tasks.core.records import Example, Message, content_id
from tasks.engine import encode
from tasks.engine.chat_template import Tokenizer
from tasks.io.token_store import Contents, Tokenized

EMPTY = "empty response"
UNDESIRABLE = "undesirable response"
CONTROL = "control token"
LONG = "too long"
OVER_BUDGET = "not looked at"
NOT_FINITE = "loss is not finite"


@dataclass(frozen=True)
class Screen:
    """The choice of examples to diagnose. Their order depends on the seed and their ids, not on their positions in the table."""

    tokenizer: Tokenizer
    longest: int
    """Most tokens that a diagnosed example may have."""
    max_tokens: int
    """Approximate number of tokens to diagnose in total."""
    seed: int

    @property
    def settings(self) -> dict[str, int]:
        """Return the settings that, with tokenizer, examples and code, determine the sequences."""
        return {"longest": self.longest, "max_tokens": self.max_tokens, "seed": self.seed}

    def in_order(self, examples: Iterable[Example]) -> list[Example]:
        """Return the examples in the order in which they are looked at."""
        return sorted(examples, key=lambda example: content_id(str(self.seed), example.id))

    def tokenized(self, ordered: Sequence[Example], contents: Contents) -> Iterator[Tokenized]:
        """Yield the examples after those in `contents`, each as the sequence of its last answer, until there are `max_tokens`.

        An example that is excluded yields no sequence.
        """
        remaining = self.max_tokens - contents.tokens
        for example in ordered[contents.rows :]:
            if remaining <= 0:
                return
            sequence = None if self._unfit(example) else encode.example(example, self.tokenizer)
            fits = sequence is not None and len(sequence) <= self.longest
            yield Tokenized([sequence] if sequence is not None and fits else [], example.domain)
            remaining -= len(sequence) if sequence is not None and fits else 0

    def excluded(self, ordered: Sequence[Example], num_looked_at: int, included: Set[str]) -> dict[str, str]:
        """Return, by id, the reason why each example is not in `included`. The first `num_looked_at` were looked at."""
        reasons = {
            example.id: self._unfit(example) or LONG
            for example in ordered[:num_looked_at]
            if example.id not in included
        }
        return reasons | {example.id: OVER_BUDGET for example in ordered[num_looked_at:]}

    def _unfit(self, example: Example) -> str:
        """Return the reason, other than its length, that excludes an example; empty if there is none."""
        if not example.response.strip() and not example.messages[-1].tool_calls:
            return EMPTY
        if example.desirable is False:
            return UNDESIRABLE
        return "" if encode.is_plain_example(example, self.tokenizer) else CONTROL


def transcript(messages: Sequence[Message]) -> str:
    """Return a conversation as plain text; a single message without its role."""
    if len(messages) == 1:
        return messages[0].content
    return "\n\n".join(f"{message.role}: {' '.join(message.texts)}" for message in messages)
