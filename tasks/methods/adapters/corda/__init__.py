"""CorDA: low-rank updates that start from components of the weight which inputs of a text use least, or most.

Yang et al. 2024, https://arxiv.org/abs/2406.05223, eq. 2 to 5. For each layer, X are its inputs on the sequences of a probe, and

    C = mean over sequences of X^T X / |max X|^2,  C' = C + 0.01 mean(diag C) I,  W C' = U diag(sigma) V^T
    B0 = U_r sqrt(sigma_r / s),  A0 = sqrt(sigma_r / s) V_r^T C'^-1,  h = W x + s (B A x - B0 A0 x)

A and B train and start as A0 and B0, which are held. `kpm` (knowledge preserved) takes the last r components, which the probe's inputs
excite least: the probe is of the knowledge to keep. `ipm` (instruction previewed) takes the first r: the probe is of the task. The
probe is `tune.probe` or `pretrain.probe`.
Shapes: T = tokens of a sequence, I = in, O = out features, R = rank, S = 2 R, K and M at most min of both sides.

What is computed is the paper's (W - s B0 A0) x + s B A x, with W left whole: a fresh layer is the base to the last bit in any dtype. It is
LoRA in size, and the forward of the update costs twice LoRA's. Saved are A, B, A0 and B0; beside them stands the same function as a LoRA
of rank 2r in peft's format, by the SVD of s (B A - B0 A0), for other programs. peft's own CorDA changes the base in place.

Our design, not the paper's:
- A0 is computed as U_r^T W / sqrt(s sigma_r), which is the same by U^T W C' = diag(sigma) V^T, and needs no inverse of C'. The authors' code
  inverts it in fp32 and doubles the 0.01 until the inverse is good; here all is in float64, and it stays.
- `training.json` says what share of C's directions the damping outweighs: where it is near 1, the probe is too short to tell
  components apart, and the weight alone has ordered them.
- C is the mean over sequences, as in peft; the authors divide by 256 whatever they read. Times k, C makes B larger and A smaller by
  sqrt(k), and leaves B A.
- A and B are in fp32 at least, whatever the base's dtype, since bf16 would swallow small steps; and weight decay leaves them
  alone, since decayed to 0 they would take their components out of W. The authors train without decay.
- `covariance: identity` orders components by the weight alone, and looks at no probe. It is the control.
C takes 4 I^2 bytes of each adapted layer while the adapter is made.
"""
