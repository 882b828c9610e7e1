"""ADEPT: copy the layers that general ability needs least, and let each tensor of the copies learn the slower the more it matters.

Zhang et al. 2026, https://arxiv.org/abs/2510.10071. On a probe of general text, with L_gen the mean loss of its trained tokens:

    layers   I_l = L_gen(layer l skipped) - L_gen      the k smallest are copied; a copy's output projections are zero, so that
                                                      the function stays
    units    I_U = mean_j |theta_j| |g_j|              g = dL_gen/dtheta, |g| averaged over batches; a unit U is a tensor of a copy
    rates    lr_U = 2 (1 - (I_U - min I) / (max I - min I)) lr_base      anew every T steps

I_U has the absolute values of the authors' code; the paper's mean of theta_j g_j cancels. As their `grad_pro` does, norm vectors
are measured against all units and the others against each other, since |theta| = 1 of a norm would leave all else at 2 lr_base.
Where the probe has plain texts and answered prompts, I_U is the mean of the two kinds'.

Our design, not the paper's: norms are known by their module's type (q_norm and k_norm are norms), the copies are remembered
rather than found by their zeros, and all batches of the probe are used.
Shapes: T = tokens of a row, N = its trained tokens, S = its sequences.
"""
