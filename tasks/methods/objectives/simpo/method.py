"""Functions of SimPO. Equations and the legend of symbols are in the card, `__init__.py`."""

from torch import Tensor
from torch.nn import functional as F

from tasks.methods.objectives import Answers, Objective, Tokens
from tasks.methods.objectives._answers import auxiliary, mean_over_step, own
from tasks.methods.objectives._pairs import encode_pairs
from tasks.methods.objectives.simpo.config import SimpoConfig


def loss(nll_N: Tensor, tokens: Tokens, config: SimpoConfig) -> Tensor:
    """Return the mean over pairs, times the step's trained tokens, by which the engine divides."""
    if (worse := auxiliary(tokens)) is None:
        return 0.0 * nll_N.sum()
    rejected, owners_S = worse
    margins_S = own(nll_N, tokens).mean_log_p[owners_S] - rejected.mean_log_p
    return mean_over_step(-F.logsigmoid(config.beta * margins_S - config.gamma), tokens)


def reward(answers: Answers, config: SimpoConfig) -> Tensor:
    """Return beta m of each answer, (S,), the paper's equation 4."""
    return config.beta * answers.mean_log_p


METHOD = Objective(loss=loss, encode=encode_pairs, reads_auxiliary=lambda config: True, reward=reward)
