"""Functions of DPO. Equations and the legend of symbols are in the card, `__init__.py`."""

from torch import Tensor
from torch.nn import functional as F

from tasks.methods.objectives import Answers, Objective, Tokens
from tasks.methods.objectives._answers import auxiliary, mean_over_step, own
from tasks.methods.objectives._pairs import encode_pairs
from tasks.methods.objectives.dpo.config import DpoConfig


def loss(nll_N: Tensor, tokens: Tokens, config: DpoConfig) -> Tensor:
    """Return the mean over pairs, times the step's trained tokens, by which the engine divides."""
    if (worse := auxiliary(tokens)) is None:
        return 0.0 * nll_N.sum()
    rejected, owners_S = worse
    margins_S = own(nll_N, tokens).log_ratio[owners_S] - rejected.log_ratio
    return mean_over_step(-F.logsigmoid(config.beta * margins_S), tokens)


def reward(answers: Answers, config: DpoConfig) -> Tensor:
    """Return beta times the log-ratio of each answer, (S,): the reward for which the model would be optimal (equation 5)."""
    return config.beta * answers.log_ratio


METHOD = Objective(loss=loss, encode=encode_pairs, reads_auxiliary=lambda config: True, reward=reward)
