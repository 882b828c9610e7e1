"""Levels: a difference whose matrices have 2^b distinct values each, stored with b bits for each number.

Jie et al. 2023, https://arxiv.org/abs/2307.16867: mean + deviation times the nearest of the 2^b levels of a standard normal distribution,
each of which is the median of its cell. Adapters `binadapter` and `biadaptformer` use their matrices in this form during training. For an
adapter that was trained in full precision it is rounding after training, their control. The 1e-5 that these adapters add to the deviation, as
the authors do, is left out: differences of fully trained weights are equally small, and would all be rounded to the inner levels.

A tensor with 2^b values or fewer does not change, so a matrix that was trained in 2^b values is stored without loss. Rounding it again
would change it, since its mean and deviation differ from those of the matrix that it was quantised from.

The file is our design, not the paper's. `bits` holds the indices of the levels, in ascending order of the levels, 8 / b in a byte, the first in
the lowest bits, as the authors pack them, each tensor in whole bytes. `values/…` holds the levels that occur, where the authors store mean and
deviation. A matrix of n numbers takes at most n b / 8 + 4 * 2^b bytes in fp32; for b = 1 this is the authors' count. `header` holds names,
shapes and dtypes. Tensors of more than 16 values are stored unchanged.
"""
