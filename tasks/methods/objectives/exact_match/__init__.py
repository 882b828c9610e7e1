"""Exact match: the share of examples that greedy decoding would not reproduce, a loss without gradient.

L = (examples with a trained token that is not the model's first choice, given the true tokens before it) / (examples)
Measured with teacher forcing, it is 1 - accuracy of greedy answers: the first token that is wrong there is wrong in generation too.
The non-differentiable objectives of MeZO (Malladi et al. 2023, https://arxiv.org/abs/2305.17333, section 3.3) are of this kind.
It requires an optimizer that needs no gradient. Weights of tokens do not count. Shapes: N = trained tokens of the pack.
"""
