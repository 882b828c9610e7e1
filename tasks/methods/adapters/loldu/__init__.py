"""LoLDU: factor a weight once into triangles and a diagonal, and train r numbers of the diagonal.

Shi et al. 2024, https://arxiv.org/abs/2410.13618:  W = P L diag(d) U, with L and U of unit diagonal, and

    h = (W_res + s P L_r diag(z) U_r) x,  W_res = W - s P L_r diag(d_r) U_r,  s = alpha / r

L_r are the first r columns of L, U_r the first r rows of U. Only z is trained; it starts at d_r, so that h = W x.
Shapes: O = out features, I = in features, R = min(rank, O, I).

The layer computes h = W x + s P L_r ((z - d_r) * U_r x). Function and gradient are the same, but W is not changed, a
fresh layer equals the base to the last bit in any dtype, and the forward pass has no O x I product.

Our design, not the paper's:
- Only z is saved, so every machine has to find the same pivots. They are computed in float64 on the CPU, where rounding decides no
  comparison between them. Pivots change with the weights, so z fits only the exact weights that it was trained on.
- Partial pivoting reads the first R columns only, so only they are factored; U_r follows by substitution.
- A pivot below 1e-8 of the largest is noise, and U_r would be divided by it: such a layer is refused by name.
- z is stored in float32, whatever the base's dtype: it has only R numbers, and bf16 would lose small steps.
The first r columns are first by position, not by importance: a small rank trains an arbitrary part of W.
`directions: random` is the control for that; docs/claims/loldu.json has its result.
We know no hyper-parameters of the paper's language models: rank and targets are our starting values, alpha is the code's.
"""
