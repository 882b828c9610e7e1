"""Bi-AdaptFormer: a small block beside every MLP, whose two matrices have two values each while they train, or 4 or 16.

Jie, Wang, Deng 2023, https://arxiv.org/abs/2307.16867:  h = x + MLP(norm(x)) + s B_b dropout(ReLU(A_b x)), where x is the residual stream
after attention, before the norm. A_b and B_b are as in `binadapter`: quantised to 2^b values, from matrices that train in full precision.
Shapes: H = hidden = in and out features, R = rank.

Because of the ReLU between its matrices, neither the weights of the MLP nor a LoRA can compute the same function. Training takes the memory
of an adapter of that rank; only the file that compressor `levels` writes is small: 2 b R H bits for each layer, and the levels.
`bits: 32` quantises nothing and is the control. B starts as small noise, as in `binadapter`.

Our design, not the paper's: the block is beside the MLP of models whose layers have `post_attention_layernorm` or `ln_2` right before
it; others are refused.
"""
