"""KappaTune: only the weight matrices of the lowest condition number train.

Ludwig 2025, https://arxiv.org/abs/2506.16289. With singular values s of a weight, kappa = s_max / (s_min + 1e-8). A low kappa is read
as a matrix that holds little specialised knowledge, which training may overwrite. It is a heuristic: the paper itself says that a high
kappa alone does not show knowledge. The numbers and their order are those of `peft.helpers.KappaTuneSelector`, computed once from the
weights before training. Without an adapter the chosen weights train, with one the adapters of the chosen layers.

Kappa depends on shape: among random matrices, square ones have by far the largest. In SmolLM2-135M the lowest 20 % are all 30 v_proj, 8 down_proj
and 4 up_proj, and no q_proj or o_proj. `normalize: within_shape` is our design, not the paper's: the share is taken within each shape.

Our design, not the paper's:
- Only linear layers are compared: experts of a mixture whose weights are one tensor of three dimensions stay frozen.
- The head never trains; peft's helper may choose the head of a small vocabulary if its kappa is low. Biases of chosen layers stay frozen.
- `order: highest` and `random` are controls. They take as many layers of each shape as `lowest` would.
"""
