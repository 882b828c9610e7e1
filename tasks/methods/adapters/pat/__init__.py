"""PAT: a model is tuned and pruned to fewer hidden channels at once; channels fade out while operators and a LoRA learn to compensate.

Liu et al. 2024, https://arxiv.org/abs/2408.14721. The embedding, each attention and each MLP add to the residual stream through an operator of
their own, and all operators share one mask. At step t of a training that drops channels at step t0:

    HSM(x) = v * M * (x + L1 L0 x),  M = sigma(tau w) + beta                                                    (eq. 5 and 11)
    tau = 1 / (1 - ln t / ln t0 + 1e-6),  beta = max(1/2 - t / t0, 0)                                           (eq. 7 to 9)

w starts as 0, so that M is 1 at the start; L1 as 0; v as 1. A and B of a LoRA, L0, L1, v and w train. To the loss are added

    10 |#(w >= 0) - d'| / d' + mean over w > 0 of (w - 1/2)^2 + mean over w <= 0 of (w + 1/2)^2 + sum over operators of mean((L0 L0^T - I)^2)

where the count has a gradient of 1 with respect to w. From step t0 on, M is 1 for the d' channels of the largest w, and 0 for the others.
Shapes: H = hidden channels (d), K = those that are kept (d'), I = in, O = out features, R = rank of the LoRA, S = rank of an operator.

The merged model is a plain model of hidden size d', which transformers opens without Ratchet. The operators are merged into the weights of the
embedding, o_proj and down_proj; the other weights lose columns. Gains of norms are multiplied by sqrt(d / d') and their eps by d / d', since means
are now over fewer channels. The width of heads does not change. A tied head becomes a tensor of its own, because the embedding has an operator and
the head has none. A Qwen2 becomes a LLaMA with biases, which is the same function, because vLLM and llama.cpp derive the width of
a Qwen2's heads from its hidden size.

As in the authors' code, and unlike the paper: v has the length of the stream and is outside the bracket; the identity loss is of L0 alone (L1 starts
as 0, which would contradict it); exponents are at most 10; and from 0.8 t0 on tau is constant and w has no gradient through M.

Our design, not the authors':
- They keep the channels with w > 0 at the end, whatever their number; we keep d' channels at t0, and `training.json` holds how many are above 0
  (`above_zero`). They train to the end with a soft mask, in which 4.5e-5 of a dropped channel remains.
- Their identity loss covers the embedding and the last layer only, since a loop overwrites the others. Ours covers all operators.
- Their merging leaves out v and eps. Ours includes both, and is exact up to rounding; in a Qwen3 the norms of queries and keys share the eps.
- `mask_rate` is a setting, because at the LoRA's learning rate w reaches 1/2 in 10,000 steps, but not in 100.
- `mask: fixed` keeps the first d' channels, a control of the paper's: the others fade by exp(-2.77 t / t0). `mask: before` keeps the channels that
  the base writes most to and drops the others before the first step, so the model differs from the base. With `operator_rank: 0` this is pruning
  followed by a LoRA.
"""
