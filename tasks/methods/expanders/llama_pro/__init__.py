"""LLaMA Pro: only copies of decoder layers train; they are inserted at a uniform stride and change nothing at the start.

Wu et al. 2024, https://arxiv.org/abs/2401.02415, section 3.2: the L layers are cut into k groups of L / k, and the top layer of each is
copied on top of it with its output projections W_o and W_down at zero, so that the copy passes on its input.

Our design, not the paper's: if k does not divide L, the stride is as even as whole layers allow; biases of the two
projections are zero too. The paper's P, the number of copies for each group, is 1 as in its models.
"""
