"""ADEPT: copy the layers that general ability needs least, and train each tensor of the copies the more slowly the more it matters.

Zhang et al. 2026, https://arxiv.org/abs/2510.10071. On a probe of general text, with L_gen the mean loss of its trained tokens:

    layers   I_l = L_gen(layer l skipped) - L_gen      the k smallest are copied; a copy's output projections are zero, so that
                                                      the function stays
    units    I_U = mean_j |theta_j| |g_j|              g = dL_gen/dtheta, |g| averaged over batches; a unit U is a tensor of a copy
    rates    lr_U = 2 (1 - (I_U - min I) / (max I - min I)) lr_base      anew every T steps

I_U has the absolute values of the authors' code, because in the paper's mean of theta_j g_j terms cancel. If the probe has plain texts and
answered prompts, I_U is the mean over the two kinds.

`normalisation: plain`, the default, is the rule above, from the file that the authors' trainer imports (`callbacks.py`). A norm has
|theta| = 1 and mostly the largest I_U, so all other units are near 2 lr_base. `grad_pro` compares norms with all units and
the others with each other; it is in `callback_deepspeed.py`, which no file of the authors imports. For the same importances
the rates of the two rules differ by up to 1.75 lr_base.

Differences from the authors' code:
- Every tensor of a copy has its own rate. Their trainer has two groups, with and without decay, and each takes the rate of its
  first tensor.
- I_l is a mean over tokens. Theirs is a mean over batches, in which a short batch weighs as much as a long one; that can select
  other layers.
- Dropout is off while units are scored. Their code scores them in train mode, which is the same for a model without dropout. With
  attention dropout of 0.3 their I_U was 0.73 to 1.49 times ours.
- `grad_pro` recognises norms by the type of the module (q_norm and k_norm are norms), theirs by `layernorm` in the name.
- The places of the copies are recorded. Their code finds copies by their zeros.
Shapes: T = tokens of a row, N = its trained tokens, S = its sequences.
"""
