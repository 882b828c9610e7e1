"""LeMo: in upper layers only the most wanted blocks of tokens go through attention, and MLPs keep few columns for going backward.

Wang et al., USENIX ATC 2025, https://arxiv.org/abs/2501.09767 (there JENGA); the code of the authors, Pairshoe/Jenga-AE (498cb190), was read.
A sequence is cut into b blocks of `block` tokens. In each layer from `first` on, but never in the last, X being the normed input of attention:

    P_ij = sum_h ReLU(q_ih . k_jh),  s_j = sum_i P_ij           how much all queries of the sequence want block j, without gradient
    kept: the max(2, floor(keep b)) blocks of the largest s, the first and the last among them
    y = o_proj(attention(q, k, v of X[kept], causal, at their own positions)) at the kept tokens, 0 at the others

A sliding window is of the whole sequence: a kept token reads those of the kept ones that the plain model would read.
Tokens that are left out go on by the residual stream and through the MLP. MLPs are computed whole, forward, and keep of their d_ff columns the
K = floor(mlp_keep d_ff) of the largest ||act(gate)||_2 + ||up||_2 over the tokens; what goes backward goes through these alone:

    dL/dx = (dL/dy W_down[:, K] * up * act'(gate)) W_gate[K] + (dL/dy W_down[:, K] * act(gate)) W_up[K]

This gradient is biased, and there is none of the MLP's weights: where these train it is refused. Kept of an MLP are 2 mlp_keep d_ff numbers a
token (the authors' code keeps a third tensor, act(gate), which is computed again here) in place of 3 d_ff. The norm before the MLP keeps its input alone.
The paper's third part, a loss of some logits at a time, holds for every composition (`tasks.engine.forward`, 256 rows at a time).

Training alone: a model is scored and writes without it, and what is saved is an ordinary adapter. s sums over later queries too, so that what a
token reads in training may depend on tokens after it; losses of held-out text are of the plain model. `keep: 1` and `mlp_keep: 1` are plain training.

Ours, not the paper's: the score. The paper trains for each layer a predictor of P, whose q_i k_j are maximal over the tokens of both blocks; this
score takes q and k of the mean of a block's states by the frozen projections, which costs 1 / block of them and no predictor (`blocks: score`).
`blocks: exact` computes what the predictor is trained to predict, and costs as much as attention. `random` and `recent` are controls: as many blocks,
drawn from (seed, step, layer, look, sequence), or the last ones. Ours too: blocks lie within the sequences of a pack and the last may be short,
where the paper has one sequence whose length divides; the first and last block of each always stay. The paper's layers are 15 to 30 of 32.
Left out: the predictor, and thresholds by layer, which the authors' code does not use.
"""
