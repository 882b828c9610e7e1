"""Levels: a difference whose matrices have 2^b values each, b bits for every number.

Jie et al. 2023, https://arxiv.org/abs/2307.16867: mean + deviation times the nearest of the 2^b levels of a standard normal that are each
the median of its cell. It is how adapters `binadapter` and `biadaptformer` see their matrices while they train; on an adapter that was
trained in full precision it is rounding afterwards, their control. The 1e-5 that adapters add to the deviation, as the authors do, is
left out: differences of weights that were trained whole are as small, and all of them would have the inner levels.

A tensor that has 2^b values or fewer stays as it is, so that what was trained in 2^b values is stored without loss: rounded again it
would be another, since its mean and deviation are not those of the matrix that it was made of.

The file is our design, not the paper's: `bits` are the numbers of the levels, ascending, 8 / b in a byte, the first in the lowest bits,
as the authors pack them, each tensor in whole bytes; `values/…` the levels that occur, where the authors store mean and deviation. Of
a matrix of n numbers that is n b / 8 + 4 * 2^b bytes in fp32 at most, for b = 1 the authors' count. `header` says names, shapes and
types. Tensors of more than 16 values are stored as they are.
"""
