"""LLaMA Pro: copies of decoder layers at a uniform stride, neutral at the start, are all that trains.

Wu et al. 2024, https://arxiv.org/abs/2401.02415, section 3.2: the L layers are cut into k groups of L / k, and the top layer of each is
copied on top of it with its output projections W_o and W_down at zero, so that the copy passes its input on.

Our design, not the paper's: where k does not divide L the stride is as even as whole layers allow, and biases of the two
projections are zero too. The paper's P, copies for each group, is 1 as in its models.
"""
