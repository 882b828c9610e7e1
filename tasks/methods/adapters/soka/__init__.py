"""SoKA: a weight's leading Kronecker products train; the spectrum of each layer or a budget determines their number.

Chong 2025, https://arxiv.org/abs/2506.15251. Only the abstract and a part of the introduction were accessible; no code was found. With
O = M P and I = N Q,

    y = W x + sum over k of (A_k ⊗ B_k - A0_k ⊗ B0_k) x,  A_k of M x N, B_k of P x Q

A0 and B0 are frozen; A and B train and start equal to them. They come from the singular value decomposition of the rearranged weight
(Van Loan and Pitsianis 1993): R(W)[i N + j, a Q + b] = W[i P + a, j Q + b], so that R(A ⊗ B) = vec(A) vec(B)^T, and
    R(W) = sum of sigma_k u_k v_k^T,  A0_k = sqrt(sigma_k) mat(u_k),  B0_k = sqrt(sigma_k) mat(v_k):
of all sums of equally many Kronecker products, this one is nearest to W.
Shapes: I = in = N Q, O = out = M P features, R = products of a layer, K = MN or PQ, the smaller.

The number of products that train follows the abstract's "energy threshold and elbow point", whose formulas we could not read:
- by energy: the fewest products that hold the share `energy` of the sum of sigma^2;
- by elbow: the products before the point of (k, log sigma_k), k up to `max_terms`, that lies deepest below the chord from the first to the last;
- the smaller of the two, between `min_terms` and `max_terms`. With `budget`, energy and elbow do not count: products are added one by one,
  each to the layer whose next product holds the most energy per number, within the same bounds, until the budget is used up.
The energy threshold takes effect nowhere, since a trained weight's spectrum falls slowly. In layer 15 of SmolLM2-135M, 16 products hold 12, 6
and 17 % of the energy of q, up and v, and 90 % would take 281, 465 and 166 products; in noise matrices of equal size they hold 10, 6 and 17 %.
So elbow or budget decide. `training.json` holds for each layer the result of both criteria, the number that train, and the energy they hold.

Our design, not the paper's, besides these formulas:
- The weight is decomposed, as in PiSSA; the abstract does not say which matrix. M and N are the divisors of O and I nearest to their
  square roots, or those that `shapes` gives.
- W is not changed and the start is stored, whereas PiSSA takes its components out of W: a fresh layer equals the base to the last bit in any
  dtype.
- The sum of products is computed as one matrix of W's size. From I O / (N Q P + M N P) products on, which is I / (2 N) for square factors,
  this takes fewer operations than applying products one by one, and it stores nothing for each token.
- A and B are in at least fp32, without weight decay: decay to 0 would remove their products from W.
- `init: random` is the control: equally many products, with random A_k of the same norms as the weight's own, and B_k = 0.
A product has full rank if its factors have, so a LoRA of the same function would be no smaller than W. Few trained numbers do not mean few
operations: merge for inference. The decomposition of a layer is in float64, on the layer's device, with O I min(M N, P Q) operations.
"""
