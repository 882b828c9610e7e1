"""SimPO: make the better of two answers more likely per token than the worse one, by a margin, without a reference model.

Meng et al. 2024, https://arxiv.org/abs/2405.14734, equation 6, with m = mean log p of an answer's tokens:
  L = -log sigmoid(beta (m(y+) - m(y-)) - gamma)
averaged over the pairs of a step. The loss equals that of TRL's `CPOTrainer` with loss type `simpo` and `cpo_alpha: 0`.
Shapes: N = trained tokens of the pack, S = its sequences.
"""
