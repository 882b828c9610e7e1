"""PAT: a model is tuned and made narrower at once; its hidden channels fade out while operators and a LoRA learn to do without them.

Liu et al. 2024, https://arxiv.org/abs/2408.14721. What is added to the residual stream, by the embedding, each attention and each MLP, goes
through an operator of its own, and all operators share one mask. At step t of a training that drops channels at step t0:

    HSM(x) = v * M * (x + L1 L0 x),  M = sigma(tau w) + beta                                                    (eq. 5 and 11)
    tau = 1 / (1 - ln t / ln t0 + 1e-6),  beta = max(1/2 - t / t0, 0)                                           (eq. 7 to 9)

w starts as 0, so that M is 1 at the start; L1 as 0; v as 1. A and B of a LoRA, L0, L1, v and w train. To the loss are added

    10 |#(w >= 0) - d'| / d' + mean over w > 0 of (w - 1/2)^2 + mean over w <= 0 of (w + 1/2)^2 + sum over operators of mean((L0 L0^T - I)^2)

where the count passes a gradient of 1 on to w. From step t0 on M is 1 for the d' channels of the largest w, and 0 for the others.
Shapes: H = hidden channels (d), K = those that are kept (d'), I = in, O = out features, R = rank of the LoRA, S = rank of an operator.

Merged it is a plain model of hidden size d', which transformers opens without Ratchet: the operators are in the weights of the embedding,
o_proj and down_proj, the other weights lose columns, gains of norms are times sqrt(d / d') and their eps is times d / d', since means are now over
fewer channels. The width of heads stays as it was. A tied head becomes a tensor of its own: the embedding has an operator, and the head has none. A Qwen2
becomes a LLaMA with biases, which is the same function: of a Qwen2, vLLM and llama.cpp take the width of heads from the hidden size.

As in the authors' code, and unlike the paper: v is as long as the stream and stands outside, the identity loss is of L0 alone (one of L1, which starts
as 0, would contradict it), exponents are at most 10, and from 0.8 t0 on tau stays and w has no gradient through M.

Our design, not the authors':
- They keep w > 0 at the end, of any number; we keep d' channels at t0, and `training.json` says how many are above 0 (`above_zero`). They train to the end with a soft
  mask, which leaves 4.5e-5 of a dropped channel.
- Their identity loss is that of the embedding and of the last layer, the others being overwritten in a loop. Ours is of all.
- Their merging leaves out v and eps. Ours has both, and is exact but for rounding; of a Qwen3 the norms of queries and keys share the eps.
- `mask_rate`: in 10,000 steps w reaches 1/2 at the rate of the LoRA, in 100 it does not.
- `mask: fixed` keeps the first d' channels, which is a control of the paper's: the others fade by exp(-2.77 t / t0). `mask: before` keeps the channels
  that the base writes most to, drops the others before the first step, and so differs from the base: with `operator_rank: 0`, pruning and then a LoRA.
"""
