"""Log-probabilities of whole answers, from the losses of their tokens.

Shapes: N = trained tokens of the pack, S = its sequences, A = auxiliary sequences of the pack.
"""

from torch import Tensor

from tasks.methods.objectives import REFERENCE, Answers, Tokens


def own(nll_N: Tensor, tokens: Tokens) -> Answers:
    """Return the answers that the pack's sequences train."""
    return _answers(nll_N, tokens.segments, tokens.columns.get(REFERENCE.name), len(tokens.numbers))


def auxiliary(tokens: Tokens) -> tuple[Answers, Tensor] | None:
    """Return the answers of the auxiliary sequences, and the sequence that each belongs to, (A,); None if the pack has none."""
    other = tokens.auxiliary
    if other is None:
        return None
    answers = _answers(other.nll, other.segments, other.columns.get(REFERENCE.name), len(other.owners))
    return answers, other.owners


def mean_over_step(values: Tensor, tokens: Tokens) -> Tensor:
    """Return the pack's share of the mean over the step's sequences, times the step's trained tokens, by which the engine divides."""
    return values.sum() * tokens.task_tokens.sum() / tokens.task_examples.sum()


def mean_over_pairs(values: Tensor, tokens: Tokens) -> Tensor:
    """Return `mean_over_step`, taken only over sequences with a worse answer, since the step may also have others. The pack must have one."""
    assert tokens.auxiliary is not None
    return values.sum() * tokens.task_tokens.sum() / tokens.auxiliary.with_auxiliary


def _answers(nll_N: Tensor, segments_N: Tensor, reference_N: Tensor | None, count: int) -> Answers:
    zeros = nll_N.new_zeros(count)
    reference = zeros if reference_N is None else -zeros.index_copy(0, segments_N, reference_N.to(zeros))
    return Answers(zeros.index_add(0, segments_N, -nll_N), segments_N.bincount(minlength=count), reference)
