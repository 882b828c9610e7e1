"""MoSA: a small block beside every MLP whose matrix trains in random parts, one drawn part for each look at a row, and serves as their mean.

Zhang et al. 2023, https://arxiv.org/abs/2312.02923:  h = x + MLP(norm(x)) + s U dropout(GELU(D norm_a(x))), where x is the stream that the block's
attention has been added to and norm_a a norm of the block's own, which trains. D and U have biases; U = 0 at the start.

U is cut at random into E parts that overlap nowhere and cover it. In a step's look it is one drawn part, unscaled; afterwards it is the mean over
the parts. Biases are not cut: each part has its own, and they are averaged. `share` and objective `consistency` are as in `mosl`, which is the
same for a LoRA. With `parts: 1` it is the plain AdaptFormer of the authors' code: the control.
Shapes: H = hidden size, R = rank.

Between the matrices stands a GELU, so neither the weights of the MLP nor a LoRA compute the same.
Numbers are those of Theia-4869/MoSA (286cc0fd). Our design, not the paper's: norm_a starts as a copy of the norm before the MLP, which in a language
model is an RMS norm; and what `mosl` says of parts, draws and what is not drawn.
"""
