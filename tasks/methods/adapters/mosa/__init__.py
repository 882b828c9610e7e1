"""MoSA: a small block beside every MLP; its matrix trains one random part for each look at a row, and is used as the mean of the parts.

Zhang et al. 2023, https://arxiv.org/abs/2312.02923:  h = x + MLP(norm(x)) + s U dropout(GELU(D norm_a(x))), where x is the residual stream after
attention and norm_a is the block's own norm, which trains. D and U have biases; U = 0 at the start.

U is divided at random into E disjoint parts that cover it. In a look of a training step U is one drawn part, unscaled; otherwise it is the mean
over the parts. Biases are not divided: each part has its own, and they are averaged. `share` and objective `consistency` are as in `mosl`, which
does the same for a LoRA. With `parts: 1` it is the plain AdaptFormer of the authors' code: the control.
Shapes: H = hidden size, R = rank.

Because of the GELU between the matrices, neither the weights of the MLP nor a LoRA can compute the same function.
Numbers are those of Theia-4869/MoSA (286cc0fd). Our design, not the paper's: norm_a starts as a copy of the norm before the MLP, which in a language
model is an RMS norm. The differences that the card of `mosl` lists for parts and draws hold here too.
"""
