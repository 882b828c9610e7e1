"""FAIT: give more weight to the tokens at which a correct program differs from a similar wrong one.

Fan et al. 2025, https://arxiv.org/abs/2503.16913 (FGIT from its second version on). Known from independent reviews of it: the loss is
that of the correct program alone; w_n is the larger the more a token has to do with the fault, is not normalised, and is
computed from the probabilities of both programs; a teacher model writes the wrong programs:
  L = sum_n w_n (-log p(y+_n | x, y+_<n)) / N
More about the paper's w, which changes during training, was not accessible. Ours:
  w_n = 1 + lambda_s (b_L L_n + b_T T_n)
with L_n = 1 on lines and T_n = 1 on characters (or tokens) that differ (`marks.py`), and lambda_s of each program, as a mode says:
  none      0, which is plain fine-tuning        constant  1
  margin    sigmoid((s- - s+) / tau), s the mean log-probability of a side's differing tokens (of all tokens of its program if
            none differs), without gradient: near 1 while the model prefers the fault, towards 0 once it does not
  schedule  m (1 - step / steps)
Shapes: N = trained tokens of the pack, M = those of the wrong programs, S = sequences of the pack, E = all that train.
"""
