"""LoLDU: factor a weight once into triangles and a diagonal, and train r numbers of the diagonal.

Shi et al. 2024, https://arxiv.org/abs/2410.13618:  W = P L diag(d) U, with L and U of unit diagonal, and

    h = (W_res + s P L_r diag(z) U_r) x,  W_res = W - s P L_r diag(d_r) U_r,  s = alpha / r

L_r are the first r columns of L, U_r the first r rows of U. Only z is trained; it starts at d_r, so that h = W x.
Shapes: O = out features, I = in features, R = min(rank, O, I).

What is computed is h = W x + s P L_r ((z - d_r) * U_r x): the same function and the same gradient, but W is left whole, a
fresh layer is the base to the last bit in any dtype, and no O x I product stands in the forward.

Our design, not the paper's:
- Only z is saved, so every machine has to find the same pivots. They are sought in float64 and on the processor, where
  rounding decides no comparison between them. Pivots change with the weights: z belongs to the very numbers it was trained on.
- Partial pivoting looks at the first R columns only, so only they are factored; U_r follows by substitution.
- A pivot below 1e-8 of the largest is noise, and U_r would be divided by it: such a layer is refused by name.
- z is kept in float32, whatever the base's dtype: it is R numbers, and bf16 would swallow a step.
The first r columns are those that stand first, not those that matter most: a small rank trains an arbitrary part of W.
`directions: random` is the control of that; docs/claims/loldu.json has what it came to.
No hyper-parameter of the paper's language models is known to us: rank and targets are our start, alpha the code's.
"""
