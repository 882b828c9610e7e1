"""FAIT: weigh the tokens at which a correct program differs from a similar wrong one.

Fan et al. 2025, https://arxiv.org/abs/2503.16913 (FGIT from its second version on). From independent reviews of it: the loss of
the correct program alone, w_n the larger the more a token has to do with the fault, not normalised:
  L = sum_n w_n (-log p(y+_n | x, y+_<n)) / N
The paper's w, which changes during training, could not be read beyond that. Ours:
  w_n = 1 + lambda_s (b_L L_n + b_T T_n)
with L_n = 1 on lines and T_n = 1 on characters (or tokens) that differ (`tasks.core.marks`), and lambda_s of each program, as a mode says:
  none      0, which is plain fine-tuning        constant  1
  margin    sigmoid((s- - s+) / tau), s the mean log-probability of a side's differing tokens (of all of its program's where
            none differs), without gradient: near 1 while the model prefers the fault, towards 0 once it does not
  schedule  m (1 - step / steps)
Shapes: N = trained tokens of the pack, M = those of the wrong programs, S = sequences of the pack, E = all that train.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tasks.core.marks import CHAR, CODE, LINE, Marking
from tasks.core.params import Params
from tasks.core.training import Moment
from tasks.methods.objectives import Objective, Tokens

if TYPE_CHECKING:
    from torch import Tensor


class FaitParams(Params):
    """The `methods.fait` section. Every default is ours, not the paper's."""

    weighting: Literal["none", "constant", "margin", "schedule"] = "margin"
    """What lambda follows."""
    lines: float = Field(1.0, ge=0)
    """b_L, what a token on a differing line gains."""
    tokens: float = Field(1.0, ge=0)
    """b_T, what a differing token gains."""
    granularity: Literal["char", "token_id"] = "char"
    """What tells which tokens differ, within lines that do: a character of theirs, or their ids, as in FIGA
    (https://arxiv.org/abs/2311.04072). Its mark on the end of turn, which is no fault, is left out."""
    anchor_deletions: bool = True
    """Whether the token at or after a place where the wrong program has more text is a differing one. Without, such a fault marks
    the right program's line at most."""
    union: bool = False
    """Whether an example with several wrong programs trains once, with the marks of all (and s- over all of them), or once with
    each."""
    tau: float = Field(1.0, gt=0)
    """margin: how many nats make a difference."""
    refresh_every: int = Field(1, ge=1)
    """margin: with 1 it is measured in every step, by a forward pass over the wrong programs; with more, for all pairs at once
    every so many steps, and kept in between. In a step it is measured as the step trains, with dropout; at a refresh without."""
    highest: float = Field(1.0, gt=0)
    """schedule: m, lambda of the first step."""
    placement: Literal["faults", "random"] = "faults"
    """`random` deals each program's marks anew among its tokens: the control that shows whether the places matter."""


def loss(nll_N: Tensor, tokens: Tokens, params: FaitParams) -> Tensor:
    """The weighted sum of the token losses, a scalar."""
    marks_N = scattered(tokens) if params.placement == "random" else tokens.marks
    gain_N = params.lines * has(marks_N, LINE) + params.tokens * has(marks_N, CHAR)
    share_S = shares(nll_N.detach(), tokens, params)
    return (tokens.weights * (1 + share_S[tokens.segments] * gain_N) * nll_N).sum()


def shares(nll_N: Tensor, tokens: Tokens, params: FaitParams) -> Tensor:
    """lambda of each sequence, (S,). It is 0 for sequences without a wrong counterpart, which have no marks either."""
    if params.weighting == "margin" and params.refresh_every > 1:
        return tokens.told["shares"][tokens.numbers]
    if params.weighting == "margin":
        return margins(nll_N, tokens, params.tau)
    if params.weighting == "schedule":
        return tokens.told["share"].expand(len(tokens.numbers))
    return nll_N.new_full((len(tokens.numbers),), float(params.weighting == "constant"))


def margins(nll_N: Tensor, tokens: Tokens, tau: float) -> Tensor:
    """sigmoid((s- - s+) / tau) of each sequence, (S,)."""
    contrasts, num_sequences = tokens.contrasts, len(tokens.numbers)
    if contrasts is None:
        return nll_N.new_zeros(num_sequences)
    right_S = -marked_mean(nll_N, tokens.marks, tokens.segments, num_sequences)
    wrong_S = -marked_mean(contrasts.nll, contrasts.marks, contrasts.segments, num_sequences)
    has_pair_S = contrasts.segments.bincount(minlength=num_sequences) > 0
    return has_pair_S * ((wrong_S - right_S) / tau).sigmoid()


def marked_mean(values_N: Tensor, marks_N: Tensor, segments_N: Tensor, num_sequences: int) -> Tensor:
    """The mean of each sequence's values over its differing tokens, over its program where none differs, (S,)."""

    def mean(mask_N: Tensor) -> tuple[Tensor, Tensor]:
        sums_S = values_N.new_zeros(num_sequences).index_add_(0, segments_N, values_N * mask_N)
        counts_S = segments_N[mask_N].bincount(minlength=num_sequences)
        return sums_S / counts_S.clamp(min=1), counts_S

    differing_S, num_differing_S = mean(has(marks_N, CHAR))
    program_S, _ = mean(has(marks_N, CODE))
    return differing_S.where(num_differing_S > 0, program_S)


def scattered(tokens: Tokens) -> Tensor:
    """The marks of each sequence dealt anew among the tokens of its program, the same way throughout a training, (N,)."""
    import torch

    marks_N = tokens.marks.clone()
    (seed,) = tokens.told["seed"].tolist()
    for segment, number in enumerate(tokens.numbers.tolist()):
        places = ((tokens.segments == segment) & has(marks_N, CODE)).nonzero()[:, 0]
        draw = torch.Generator().manual_seed(1_000_003 * seed + number)
        order = torch.randperm(len(places), generator=draw).to(places.device)
        marks_N[places] = marks_N[places[order]]
    return marks_N


def has(marks_N: Tensor, flag: int) -> Tensor:
    """Which tokens carry a flag, (N,)."""
    return (marks_N & flag) > 0


def on_step(moment: Moment, params: FaitParams) -> None:
    """Leave what lambda of the coming steps follows from in the method's state."""
    if params.placement == "random":
        moment.state["seed"] = [moment.seed]
    if params.weighting == "schedule":
        moment.state["share"] = [params.highest * (1 - moment.step / moment.steps)]
    elif params.weighting == "margin" and params.refresh_every > 1 and moment.step % params.refresh_every == 0:
        moment.state["shares"] = measured(moment, params.tau)


def measured(moment: Moment, tau: float) -> list[float]:
    """lambda of everything that trains, E of them, under the model as it is."""
    shares_E = [0.0] * moment.sequences
    for nll_N, tokens in moment.pairs():
        for number, share in zip(tokens.numbers.tolist(), margins(nll_N, tokens, tau).tolist(), strict=True):
            shares_E[number] = share
    return shares_E


def marking(params: FaitParams) -> Marking:
    """How programs are to be marked."""
    return Marking(params.granularity, params.anchor_deletions, params.union)


def wants_contrasts(params: FaitParams) -> bool:
    """Whether every step looks at the wrong programs."""
    return params.weighting == "margin" and params.refresh_every == 1


METHOD = Objective(
    params=FaitParams,
    loss=loss,
    on_step=on_step,
    tells=("seed", "share", "shares"),
    contrasts=wants_contrasts,
    marks=marking,
)
