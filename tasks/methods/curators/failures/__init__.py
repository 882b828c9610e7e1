"""Failures: new tasks of the kinds that the model sometimes fails and sometimes solves, in proportion to how often it fails.

Our own method, after rejection sampling, where a verifier chooses what is trained on (STaR, Zelikman et al. 2022,
https://arxiv.org/abs/2203.14465; ReST-EM, Singh et al. 2023, https://arxiv.org/abs/2312.06585), and after curricula by measured error:

  w_k = f_k (s_k + 1) / (n_k + 2)     a_k = A w_k / sum over kinds of w     rounded by the largest remainders

where s_k of n_k tasks of kind k were solved and the share f_k failed: failures times the probability of success by Laplace's rule of
succession. A kind that the model always fails may be too hard for it, and new tasks of that kind teach little. The weight follows the
p (1 - p) by which reinforcement learning chooses tasks (Foster et al. 2025, Learning to reason at the frontier of learnability,
https://arxiv.org/abs/2502.12272).
The tasks asked are fresh ones, which are neither trained on nor reported. A is the number of new tasks: `add`, or `growth` times the
examples of the round. Their answers come from the generator, or from the model's own samples that the verifier accepts (`refine.generator`).

`where: failures` has w_k = f_k. It gives most tasks to kinds that training does not improve, and gained less than an even spread
(docs/claims/failures.json).

The control `uniform` adds equally many, spread evenly over all kinds that were asked.
A kind without failures gets nothing; if no kind has failures, nothing is added. If all kinds fail equally often, of equally many tasks, all three
spreads are equal.
"""
