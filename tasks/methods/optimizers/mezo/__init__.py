"""MeZO: fine-tuning with two forward passes per step, in as much memory as inference.

Malladi et al. 2023, https://arxiv.org/abs/2305.17333, algorithm 1 and definition 1 (SPSA):
  g = (L(theta + eps z) - L(theta - eps z)) / (2 eps),  z ~ N(0, I)       the projected gradient, a number
  theta <- theta - lr (g z + wd theta)
z is redrawn from the step's seed whenever it is needed, tensor by tensor, and theta is changed in place: there is no graph and
no gradient, and the optimizer state consists of numbers only. With n directions g z is averaged over them (n-SPSA, definition 2). L need not be
differentiable: `objective: exact_match` is a score, and `step(closure)` accepts any function of the model.

Settings of the paper (tables 15 and 16), all at a constant learning rate and for 20,000 steps and more: all weights eps 1e-3,
learning rate 1e-6 or 1e-7; LoRA 1e-2, 5e-5 or 1e-4; prefixes 1e-1, 1e-2 or 1e-3. It needs a pretrained model and a prompt.

Our design, not the paper's: z comes from generators of its own, not from torch's global one. A step's seed is a function of
(seed, step), and a tensor's part of z a function of (step's seed, place of the tensor in the optimizer's groups), so that `zo2` can draw a
block's part alone; the authors' code draws all tensors from one stream. The packs of a step share z and their g are summed; processes
average theirs. A step whose g is not finite is skipped and counted. The loss reported is the mean of the two. Vectors are never decayed;
the authors' code decays all parameters without `bias`, `layernorm` or `layer_norm` in their name, such as a LLaMA's
`model.norm.weight`, a Qwen3's q_norm and k_norm, and every norm of a GPT-2.
"""
