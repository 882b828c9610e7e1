"""MoLA: in every layer a router sends each token to a few of many LoRA experts; the number of experts depends on the layer's depth.

Gao et al. 2024, https://arxiv.org/abs/2402.08562 (final version: Findings of NAACL 2025), eq. 3 and 4:

    p = softmax(W_r x),  s_k = p_k / (sum of p over K),  h = W x + sum over k in K of s_k (alpha / r) B_k A_k x

K are the `top_k` experts of the largest p. The decoder's layers are cut into four groups of equal length, bottom up, and `experts`
gives the number of experts in each group's layers. A, B and W_r of every linear layer are trained; B = 0 at the start.
The load balance of a decoder layer with E experts is E sum_e f_e P_e, where f_e is the share of picks that went to expert e and
P_e the mean of p_e, over all tokens and linear layers: 1 if all experts are used equally, up to E if only one is used.
Shapes: T = tokens, E = experts, K = picks of a token, R = rank, O = out, I = in features.

The title of the first version says that higher layers need more experts. The final version finds this for the middle layers, and finds
no shape that is best on every base model: they are within two points. Its argument rests on the distance between the experts of each layer
after training, which is written into `training.json`.

Our design, not the paper's:
- The experts of a layer are stored in two matrices, and those not picked are multiplied by 0. With a total inner width of a few dozen this
  is two to four times as fast as sorting tokens by expert, and it copies no activations.
- Dropout is drawn once for each token, not once for each of its picks.
- The balance loss is on, as in the paper and in the authors' script for instruction tuning. In their script for single tasks it is off by
  default. The coefficient is 0.001 in both.
"""
