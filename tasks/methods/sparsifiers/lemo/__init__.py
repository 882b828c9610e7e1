"""LeMo: in upper layers only the most relevant blocks of tokens go through attention, and MLPs save few columns for the backward pass.

Wang et al., USENIX ATC 2025, https://arxiv.org/abs/2501.09767 (there JENGA); the code of the authors, Pairshoe/Jenga-AE (498cb190), was read.
A sequence is cut into b blocks of `block` tokens. In each layer from `first` on, except the last, with X the normed input of attention:

    P_ij = sum_h ReLU(q_ih . k_jh),  s_j = sum_i P_ij           relevance of block j to all queries of the sequence, without gradient
    kept: the max(2, floor(keep b)) blocks of the largest s, the first and the last among them
    y = o_proj(attention(q, k, v of X[kept], causal, at their own positions)) at the kept tokens, 0 at the others

A sliding window refers to the whole sequence: a kept token attends to the kept tokens that the plain model would attend to.
Tokens that are left out continue through the residual stream and the MLP. The forward pass of an MLP is complete. Of its d_ff columns it saves the
K = floor(mlp_keep d_ff) of the largest ||act(gate)||_2 + ||up||_2 over the tokens; the backward pass goes only through these:

    dL/dx = (dL/dy W_down[:, K] * up * act'(gate)) W_gate[K] + (dL/dy W_down[:, K] * act(gate)) W_up[K]

This gradient is biased, and the MLP's weights have none: if they train, an error is raised. An MLP saves 2 mlp_keep d_ff numbers for each token
instead of 3 d_ff (the authors' code saves a third tensor, act(gate), which is recomputed here). The norm before the MLP saves only its input.
The paper's third part, a loss of some logits at a time, is used for every composition (`tasks.engine.forward`, 256 rows at a time).

LeMo acts in training only: models are scored and generate without it, and an ordinary adapter is saved. s also sums over later queries, so what a
token attends to in training may depend on later tokens; losses on held-out text are of the plain model. `keep: 1` and `mlp_keep: 1` are plain
training.

Ours, not the paper's: the score. For each layer the paper trains a predictor of P, whose q_i k_j are maxima over the tokens of both blocks. Our
score applies the frozen projections to the mean of a block's states, which costs 1 / block of them and needs no predictor (`blocks: score`).
`blocks: exact` computes the predictor's target, and costs as much as attention. `random` and `recent` are controls: equally many blocks, drawn from
(seed, step, layer, look, sequence), or the last ones. Also ours: blocks lie within the sequences of a pack and the last may be short, whereas the
paper has one sequence whose length is a multiple of the block; the first and last block of each always stay. The paper's layers are 15 to 30 of 32.
Left out: the predictor, and thresholds by layer, which the authors' code does not use.
"""
