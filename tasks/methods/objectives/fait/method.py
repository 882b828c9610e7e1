"""Functions of FAIT. Equations and the legend of symbols are in the card, `__init__.py`."""

from collections.abc import Sequence

import torch
from torch import Tensor

from tasks.core.records import Example, FaultPair
from tasks.core.sequences import Encoder, Encoding
from tasks.core.training import Moment
from tasks.methods.objectives import Objective, Tokens
from tasks.methods.objectives.fait.column import CHAR, CODE, LINE, MARKS
from tasks.methods.objectives.fait.config import FaitConfig
from tasks.methods.objectives.fait.encode import encode_pairs
from tasks.methods.objectives.fait.marks import Marking


def loss(nll_N: Tensor, tokens: Tokens, config: FaitConfig) -> Tensor:
    """Return the weighted sum of the token losses, a scalar."""
    marks_N = scattered(tokens) if config.placement == "random" else tokens.columns[MARKS]
    gain_N = config.lines * has(marks_N, LINE) + config.tokens * has(marks_N, CHAR)
    share_S = shares(nll_N.detach(), tokens, config)
    return (tokens.weights * (1 + share_S[tokens.segments] * gain_N) * nll_N).sum()


def shares(nll_N: Tensor, tokens: Tokens, config: FaitConfig) -> Tensor:
    """Return lambda of each sequence, (S,): 0 for sequences without a wrong counterpart, which have no marks either."""
    if config.weighting == "margin" and config.refresh_every > 1:
        return tokens.state["shares"][tokens.numbers]
    if config.weighting == "margin":
        return margins(nll_N, tokens, config.tau)
    if config.weighting == "schedule":
        return tokens.state["share"].expand(len(tokens.numbers))
    return nll_N.new_full((len(tokens.numbers),), float(config.weighting == "constant"))


def margins(nll_N: Tensor, tokens: Tokens, tau: float) -> Tensor:
    """Return sigmoid((s- - s+) / tau) of each sequence, (S,)."""
    wrong, num_sequences = tokens.auxiliary, len(tokens.numbers)
    if wrong is None:
        return nll_N.new_zeros(num_sequences)
    owners_M = wrong.owners[wrong.segments]
    right_S = -marked_mean(nll_N, tokens.columns[MARKS], tokens.segments, num_sequences)
    wrong_S = -marked_mean(wrong.nll, wrong.columns[MARKS], owners_M, num_sequences)
    has_pair_S = owners_M.bincount(minlength=num_sequences) > 0
    return has_pair_S * ((wrong_S - right_S) / tau).sigmoid()


def marked_mean(values_N: Tensor, marks_N: Tensor, segments_N: Tensor, num_sequences: int) -> Tensor:
    """Return the mean of each sequence's values over its differing tokens, or over its whole program if none differs, (S,)."""

    def mean(mask_N: Tensor) -> tuple[Tensor, Tensor]:
        sums_S = values_N.new_zeros(num_sequences).index_add_(0, segments_N, values_N * mask_N)
        counts_S = segments_N[mask_N].bincount(minlength=num_sequences)
        return sums_S / counts_S.clamp(min=1), counts_S

    differing_S, num_differing_S = mean(has(marks_N, CHAR))
    program_S, _ = mean(has(marks_N, CODE))
    return differing_S.where(num_differing_S > 0, program_S)


def scattered(tokens: Tokens) -> Tensor:
    """Return each sequence's marks shuffled among the tokens of its program, in the same way throughout a training, (N,)."""
    marks_N = tokens.columns[MARKS].clone()
    (seed,) = tokens.state["seed"].tolist()
    for segment, number in enumerate(tokens.numbers.tolist()):
        places = ((tokens.segments == segment) & has(marks_N, CODE)).nonzero()[:, 0]
        draw = torch.Generator().manual_seed(1_000_003 * seed + number)
        order = torch.randperm(len(places), generator=draw).to(places.device)
        marks_N[places] = marks_N[places[order]]
    return marks_N


def has(marks_N: Tensor, flag: int) -> Tensor:
    """Return the mask of the tokens that have a flag, (N,)."""
    return (marks_N & flag) > 0


def on_step(moment: Moment, config: FaitConfig) -> None:
    """Put the values that determine lambda in the coming steps into the method's state."""
    if config.placement == "random":
        moment.state["seed"] = [moment.seed]
    if config.weighting == "schedule":
        moment.state["share"] = [config.highest * (1 - moment.step / moment.steps)]
    elif config.weighting == "margin" and config.refresh_every > 1 and moment.step % config.refresh_every == 0:
        moment.state["shares"] = measured(moment, config.tau)


def measured(moment: Moment, tau: float) -> list[float]:
    """Return lambda of each of the E training sequences under the present model."""
    shares_E = [0.0] * moment.sequences
    for nll_N, tokens in moment.auxiliary():
        for number, share in zip(tokens.numbers.tolist(), margins(nll_N, tokens, tau).tolist(), strict=True):
            shares_E[number] = share
    return shares_E


def encode(row: Example, pairs: Sequence[FaultPair], encoder: Encoder, max_tokens: int, config: FaitConfig) -> Encoding:
    """Return an example with its marks, and the wrong programs as auxiliary sequences."""
    marking = Marking(config.granularity, config.anchor_deletions, config.union)
    return encode_pairs(row, pairs, encoder, max_tokens, marking)


def measures_every_step(config: FaitConfig) -> bool:
    """Return True if every step reads the wrong programs."""
    return config.weighting == "margin" and config.refresh_every == 1


def unsteady(config: FaitConfig) -> str:
    """Return why two passes of a step have different weights, and the remedy; empty if the weights are equal."""
    if not measures_every_step(config):
        return ""
    return "it measures lambda in every forward pass. Set methods.fait.refresh_every above 1"


METHOD = Objective(loss=loss, on_step=on_step, encode=encode, reads_auxiliary=measures_every_step, unsteady=unsteady)
