"""Functions of ORPO. Equations and the legend of symbols are in the card, `__init__.py`."""

import torch
from torch import Tensor
from torch.nn import functional as F

from tasks.methods.objectives import Answers, Objective, Tokens
from tasks.methods.objectives._answers import auxiliary, mean_over_pairs, own
from tasks.methods.objectives._pairs import encode_pairs
from tasks.methods.objectives.orpo.config import OrpoConfig


def loss(nll_N: Tensor, tokens: Tokens, config: OrpoConfig) -> Tensor:
    """Return the sum of the token losses of the better answers plus lambda times the mean loss of odds ratios, times the step's tokens."""
    if (worse := auxiliary(tokens)) is None:
        return nll_N.sum()
    rejected, owners_S = worse
    ratios_S = log_odds(own(nll_N, tokens).mean_log_p[owners_S]) - log_odds(rejected.mean_log_p)
    return nll_N.sum() + config.weight * mean_over_pairs(-F.logsigmoid(ratios_S), tokens)


def log_odds(mean_log_p_S: Tensor) -> Tensor:
    """Return log p / (1 - p) of each answer, (S,); p is clipped at 1 - eps of its dtype."""
    below_0_S = mean_log_p_S.clamp(max=-torch.finfo(mean_log_p_S.dtype).eps)
    return mean_log_p_S - torch.log(-torch.expm1(below_0_S))


def reward(answers: Answers, config: OrpoConfig) -> Tensor:
    """Return lambda m of each answer, (S,), as TRL's `ORPOTrainer` reports it."""
    return config.weight * answers.mean_log_p


METHOD = Objective(loss=loss, encode=encode_pairs, reads_auxiliary=lambda config: True, reward=reward)
