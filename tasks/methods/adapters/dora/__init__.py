"""DoRA: a weight's direction is tuned by a low-rank update, and its magnitude by a vector of its own.

Liu et al. 2024, https://arxiv.org/abs/2402.09353, eq. 5 and sec. 4.3:  W' = m (W + s B A) / |W + s B A|
with s = alpha / rank, B = 0 and m = |W| at the start, and no gradient through the norm. The norm is taken over the weights of
one output, which are a column in the paper and a row in torch.
A wrapper over peft's `LoraConfig(use_dora=True)`. The paper adapts q, k, v, up and down; here all linear layers are the default.
"""
