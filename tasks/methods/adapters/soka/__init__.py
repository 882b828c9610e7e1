"""SoKA: a weight's leading Kronecker products train, as many in each layer as its spectrum or a budget gives.

Chong 2025, https://arxiv.org/abs/2506.15251, of which the abstract and a part of the introduction could be read; no code was found. With
O = M P and I = N Q,

    y = W x + sum over k of (A_k ⊗ B_k - A0_k ⊗ B0_k) x,  A_k of M x N, B_k of P x Q

A0 and B0 are held; A and B train and start as them. They come of the singular value decomposition of the rearranged weight
(Van Loan and Pitsianis 1993): R(W)[i N + j, a Q + b] = W[i P + a, j Q + b], so that R(A ⊗ B) = vec(A) vec(B)^T, and
    R(W) = sum of sigma_k u_k v_k^T,  A0_k = sqrt(sigma_k) mat(u_k),  B0_k = sqrt(sigma_k) mat(v_k):
of all sums of as many Kronecker products it is nearest to W.
Shapes: I = in = N Q, O = out = M P features, R = products of a layer, K = MN or PQ, the smaller.

How many of them train, after the abstract's "energy threshold and elbow point", whose formulas we could not see:
- by energy: the fewest that hold the share `energy` of the sum of sigma^2;
- by elbow: those before the point of (k, log sigma_k), k up to `max_terms`, that lies deepest below the chord from the first to the last;
- the smaller of the two, between `min_terms` and `max_terms`; or, with `budget`, one after another for the layer whose next product holds
  the most energy for each number, between the same bounds, as long as numbers are left. Then neither energy nor elbow counts.
The threshold binds nowhere: a trained weight's spectrum falls slowly. In layer 15 of SmolLM2-135M 16 products hold 12, 6 and 17 % of q, up
and v, and 90 % would take 281, 465 and 166; matrices of noise as large 10, 6 and 17 %. So elbow or budget decide; `training.json`
tells for each layer what both criteria say, how many train, and the energy that they hold.

Our design, not the paper's, beside these formulas:
- What is decomposed is the weight, as PiSSA does: the abstract does not say which matrix. M and N are the divisors of O and I
  nearest to their square roots, or what `shapes` says.
- W is left whole and the start is held, where PiSSA takes its components out of W: a fresh layer is the base to the last bit in any dtype.
- The sum of products is formed, one matrix of W's size: from I O / (N Q P + M N P) products on, which is I / (2 N) where the factors are
  square, that takes fewer operations than products one by one, and it keeps nothing for each token.
- A and B are in fp32 at least, and weight decay leaves them alone: decayed to 0 they would take their products out of W.
- `init: random` is the control: as many products, A_k random and as long as the weight's own, B_k = 0.
A product has full rank if its factors have, so that no LoRA is smaller than W. Few trained numbers are not few operations: merge for inference.
The decomposition of a layer is in float64, on the device that holds it, O I min(M N, P Q) operations.
"""
