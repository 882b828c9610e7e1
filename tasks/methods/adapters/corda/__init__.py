"""CorDA: low-rank updates that start from the components of the weight which the inputs of a sample text use least, or most.

Yang et al. 2024, https://arxiv.org/abs/2406.05223, eq. 2 to 5. For each layer, X are its inputs on the sequences of a probe, and

    C = mean over sequences of X^T X / |max X|^2,  C' = C + 0.01 mean(diag C) I,  W C' = U diag(sigma) V^T
    B0 = U_r sqrt(sigma_r / s),  A0 = sqrt(sigma_r / s) V_r^T C'^-1,  h = W x + s (B A x - B0 A0 x)

A and B train and start as A0 and B0, which are frozen. `kpm` (knowledge preserved) takes the last r components, which the probe's inputs
excite least: take a probe of the knowledge to keep. `ipm` (instruction previewed) takes the first r: take a probe of the task. The
probe is `tune.probe` or `pretrain.probe`.
Shapes: T = tokens of a sequence, I = in, O = out features, R = rank, S = 2 R, K and M at most min of both sides.

The layer computes the paper's (W - s B0 A0) x + s B A x, but W is not changed: a fresh layer equals the base to the last bit in any dtype. It
has the size of LoRA, and the forward pass of its update costs twice LoRA's. A, B, A0 and B0 are saved. The same function is also saved as a
LoRA of rank 2r in peft's format, by the SVD of s (B A - B0 A0), for other programs. peft's own CorDA changes the base in place.

Our design, not the paper's:
- A0 is computed as U_r^T W / sqrt(s sigma_r). This is equal, because U^T W C' = diag(sigma) V^T, and needs no inverse of C'. The authors'
  code inverts C' in fp32 and doubles the 0.01 until the inverse is good; here everything is in float64, and 0.01 does not change.
- `training.json` holds the share of C's directions that the damping outweighs. If it is near 1, the probe is too short to distinguish
  components, and the weight alone has ordered them.
- C is the mean over sequences, as in peft; the authors always divide by 256. Scaling C by k makes B larger and A smaller by
  sqrt(k), and does not change B A.
- A and B are in at least fp32, whatever the base's dtype, since small steps would be lost in bf16. Weight decay is not applied to them,
  since decay to 0 would remove their components from W. The authors train without decay.
- `covariance: identity` orders components by the weight alone, and reads no probe. It is the control.
While the adapter is made, C takes 4 I^2 bytes for each adapted layer.
"""
