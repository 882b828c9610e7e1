"""DPO: make the better of two answers more likely than the worse one, relative to the model before training.

Rafailov et al. 2023, https://arxiv.org/abs/2305.18290, equation 7:
  L = -log sigmoid(beta (log p(y+|x)/p_ref(y+|x) - log p(y-|x)/p_ref(y-|x)))
averaged over the pairs of a step. p_ref is the model that the training starts from: its log-probabilities are computed once, before the
first step, and stored. The loss equals that of TRL's `DPOTrainer` (loss type `sigmoid`) on the same pairs.
Shapes: N = trained tokens of the pack, S = its sequences.
"""
