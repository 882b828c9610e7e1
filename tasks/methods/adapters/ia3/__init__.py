"""(IA)³: three learned vectors in each layer rescale its keys, its values and the inner activations of its MLP.

Liu et al. 2022, https://arxiv.org/abs/2205.05638, sec. 3.3:  softmax(Q (l_k ⊙ K)ᵀ / √d) (l_v ⊙ V)  and  (l_ff ⊙ γ(W₁ x)) W₂
with all three vectors 1 at the start.
A wrapper over peft's `IA3Config`, which rescales a layer's output, bias included, or its input. With rotary positions, keys are
rescaled before the rotation. The paper has no further settings.
"""
