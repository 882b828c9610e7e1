"""MoLA: in every layer a router sends each token to a few of many LoRA experts; how many there are depends on depth.

Gao et al. 2024, https://arxiv.org/abs/2402.08562 (final version: Findings of NAACL 2025), eq. 3 and 4:

    p = softmax(W_r x),  s_k = p_k / (sum of p over K),  h = W x + sum over k in K of s_k (alpha / r) B_k A_k x

K are the `top_k` experts of the largest p. The decoder's layers are cut into four groups of equal length, bottom up, and a
group's layers have as many experts as `experts` says. A, B and W_r of every linear layer are trained; B = 0 at the start.
The load balance of a decoder layer with E experts is E sum_e f_e P_e, where f_e is the share of picks that went to expert e and
P_e the mean of p_e, over all tokens and linear layers: 1 when all are used alike, up to E when one is.
Shapes: T = tokens, E = experts, K = picks of a token, R = rank, O = out, I = in features.

The first version's title says that higher layers need more experts. The final one finds the middle layers to be those, and no
shape that wins on every base model: they lie within two points. How far the experts of each layer are apart after training, by
which it argues, is written into `training.json`.

Our design, not the paper's:
- The experts of a layer stand in two matrices, and those not picked are multiplied by 0. With a few dozen rows in all this is
  two to four times faster than sorting tokens by expert, and it copies no activations.
- Dropout is drawn once for a token, not once for each of its picks.
- The balance loss is on, as in the paper and in the authors' script for instruction tuning. Their script for single tasks leaves
  it off unless told. The coefficient is 0.001 in both.
"""
