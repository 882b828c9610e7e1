"""MeZO: fine-tuning with two forward passes a step, in the memory of inference.

Malladi et al. 2023, https://arxiv.org/abs/2305.17333, algorithm 1 and definition 1 (SPSA):
  g = (L(theta + eps z) - L(theta - eps z)) / (2 eps),  z ~ N(0, I)       the projected gradient, a number
  theta <- theta - lr (g z + wd theta)
z is drawn anew from the step's seed whenever it is needed, tensor by tensor, and theta is changed in place: there is no graph,
no gradient, and a state of numbers. With n directions g z is averaged over them (n-SPSA, definition 2). L need not be
differentiable: `objective: exact_match` is a score, and `step(closure)` takes any function of the model.

Settings of the paper (tables 15 and 16), all at a constant learning rate and for 20,000 steps and more: all weights eps 1e-3,
learning rate 1e-6 or 1e-7; LoRA 1e-2, 5e-5 or 1e-4; prefixes 1e-1, 1e-2 or 1e-3. It wants a pretrained model and a prompt.

Our design, not the paper's: z comes from generators of its own, not from torch's global one; a step's seed is a function of
(seed, step), and a tensor's part of z one of (step's seed, place of the tensor in the optimizer's groups), where the authors' code
draws all tensors from one stream, so that `zo2` can draw a block's part alone; the packs of a step share z and their g add up, and
processes average theirs; a step whose g is not finite is skipped and counted; the loss reported is the mean of the two. Vectors
are never decayed. The authors' code decays all whose names have neither `bias` nor `layernorm` nor `layer_norm` in them: a LLaMA's
`model.norm.weight`, a Qwen3's q_norm and k_norm, every norm of a GPT-2.
"""
