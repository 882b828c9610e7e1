"""Failures: new tasks of the kinds that the model fails, in proportion to how often it fails them.

Ours, in the manner of rejection sampling (STaR, Zelikman et al. 2022, https://arxiv.org/abs/2203.14465; ReST-EM, Singh et al. 2023,
https://arxiv.org/abs/2312.06585), of which a verifier keeps what trains, and of curricula by measured error:

  f_k = failed tasks of kind k / tasks asked of it     a_k = A f_k / sum over kinds of f     rounded by the largest remainders

f_k is measured on fresh tasks that nothing trains on or reports; A is the number of new tasks. Their answers come from the generator,
or from the model's own samples that the verifier takes (`refine.generator`).
`learnable` has f_k (s_k + 1) / (n_k + 2) in place of f_k, for s_k solved of n_k tasks asked: failures times the chance of success by Laplace's
rule of succession. A kind that the model fails always may be beyond it, and new tasks of it teach little. After the p (1 - p) by which
reinforcement learning chooses tasks (Foster et al. 2025, Learning to reason at the frontier of learnability,
https://arxiv.org/abs/2502.12272).

The control `uniform` adds as many, spread evenly over all kinds that were asked.
A kind that never fails gets nothing; if none does, nothing is added. If all fail alike, both ways are one.
"""
