"""LoKr: a weight's update is one Kronecker product, whose second factor may be of low rank.

Yeh et al. 2023, https://arxiv.org/abs/2309.14859, sec. 3:  h = W x + (alpha / r) (C ⊗ D) x
with D = B A of rank r, or a full matrix if r is at least half of its longer side. C is zero at the start. A wrapper over peft's `LoKrConfig`.
`factor` is the number of C's rows and columns; -1 makes the sides of C and D as equal as possible.
"""
