"""Exact match: the share of examples that the model would not write as they stand, a loss without gradient.

L = (examples with a trained token that is not the model's first choice, given the true tokens before it) / (examples)
It is 1 - accuracy for greedy answers of teacher-forced text: the first token that is wrong there is wrong in generation too.
The non-differentiable objectives of MeZO (Malladi et al. 2023, https://arxiv.org/abs/2305.17333, section 3.3) are of this kind;
it takes an optimizer that needs no gradient. Weights of tokens do not count. Shapes: N = trained tokens of the pack.
"""
