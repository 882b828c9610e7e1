"""Log-probabilities of whole answers, from the losses of their tokens.

Shapes: N = trained tokens of the pack, S = its sequences, A = auxiliary sequences of the pack.
"""

from dataclasses import dataclass

from torch import Tensor

from tasks.methods.objectives import REFERENCE, Tokens


@dataclass(frozen=True)
class Answers:
    """The answers of a pack: the chosen ones, or the other side of its pairs."""

    log_p: Tensor
    """log p of each answer given its prompt, in nats, (S,)."""
    tokens: Tensor
    """Tokens of each, (S,)."""
    reference: Tensor
    """log p of each under the reference model, (S,); 0 where the objective has none."""

    @property
    def mean_log_p(self) -> Tensor:
        """log p of each answer for each of its tokens, (S,)."""
        return self.log_p / self.tokens

    @property
    def log_ratio(self) -> Tensor:
        """log p - log p of the reference, of each answer, (S,)."""
        return self.log_p - self.reference


def own(nll_N: Tensor, tokens: Tokens) -> Answers:
    """The answers that the pack's sequences train."""
    return _answers(nll_N, tokens.segments, tokens.columns.get(REFERENCE.name), len(tokens.numbers))


def auxiliary(tokens: Tokens) -> tuple[Answers, Tensor] | None:
    """The answers of the auxiliary sequences, and the sequence that each belongs to, (A,); None if the pack has none."""
    other = tokens.auxiliary
    if other is None:
        return None
    answers = _answers(other.nll, other.segments, other.columns.get(REFERENCE.name), len(other.owners))
    return answers, other.owners


def mean_over_step(values: Tensor, tokens: Tokens) -> Tensor:
    """The pack's share of the mean over the step's sequences, times the step's trained tokens, by which the engine divides."""
    return values.sum() * tokens.task_tokens.sum() / tokens.task_examples.sum()


def _answers(nll_N: Tensor, segments_N: Tensor, reference_N: Tensor | None, count: int) -> Answers:
    zeros = nll_N.new_zeros(count)
    reference = zeros if reference_N is None else -zeros.index_copy(0, segments_N, reference_N.to(zeros))
    return Answers(zeros.index_add(0, segments_N, -nll_N), segments_N.bincount(minlength=count), reference)
