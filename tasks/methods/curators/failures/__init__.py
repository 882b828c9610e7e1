"""Failures: new tasks of the kinds that the model fails and also solves, by how often it fails them.

Ours, in the manner of rejection sampling (STaR, Zelikman et al. 2022, https://arxiv.org/abs/2203.14465; ReST-EM, Singh et al. 2023,
https://arxiv.org/abs/2312.06585), of which a verifier keeps what trains, and of curricula by measured error:

  w_k = f_k (s_k + 1) / (n_k + 2)     a_k = A w_k / sum over kinds of w     rounded by the largest remainders

for s_k solved of n_k tasks asked of kind k, and the share f_k that failed: failures times the chance of success by Laplace's rule of
succession. A kind that the model fails always may be beyond it, and new tasks of it teach little. After the p (1 - p) by which reinforcement
learning chooses tasks (Foster et al. 2025, Learning to reason at the frontier of learnability, https://arxiv.org/abs/2502.12272).
The tasks that are asked are fresh ones, which nothing trains on or reports; A is the number of new tasks: `add`, or `growth` times the
examples of the round. Their answers come from the generator, or from the model's own samples that the verifier takes (`refine.generator`).

`where: failures` has w_k = f_k. It gives most to a kind that nothing mends, and was worth less than an even spread (docs/claims/failures.json).

The control `uniform` adds as many, spread evenly over all kinds that were asked.
A kind that never fails gets nothing; if none does, nothing is added. If all fail alike, both ways are one.
"""
