"""SHERL: a small module beside a frozen model fuses the outputs of many layers into the input of the last one, and nothing below is kept.

Diao et al., ECCV 2024, https://arxiv.org/abs/2407.07523. h_1 ... h_N are the embeddings and the outputs of every second layer below the last,
the deepest of them h_N, which is what the last layer would have read:

    u_i = ReLU(W1_i h_i + b1_i),  z_i = (W2_i u_i + b2_i + u_i) * sigmoid(W3_i u_i + b3_i)
    red_i = sum_j ReLU(cos(z_i, z_j)) over the shallow ones, i, j < N
    a_i = ReLU(w^T (z_i * z_N) + b) / red_i,  g = z_N + sum_i a_i z_i / (sum_j a_j + 1e-6)
    h' = W_o ReLU(g) + b_o + tanh(gamma / 0.1) h_N,  gamma = 0 at the start

The last layer reads h', and a norm that trains takes the place of the model's last one. A token's h' is of its own features alone, so that
causality, packs and caches are as they were.
Shapes: B = rows, T = tokens, H = hidden size, R = inner width, N = features.

A step goes backward through the head, the last layer and the module. Layers below it save nothing for that, since none of their tensors
needs a gradient; where something below trains they would save all, and that is refused. The model runs whole in generation too; the module
cannot be merged.

By the paper's start h' does not hold h_N at all, so that a fresh model knows little; `start: residual`, ours, begins as the base but for a
ten-thousandth: gamma = 0.5, for which the gate is 0.9999, W_o and b_o = 0, and the norm is the model's own. `every: 0` has no shallow features
and is the control: as little is kept for going backward.
Numbers are those of Paranioar/SHERL (36b44965), of T5. Our design, not the paper's: the mapping to a decoder alone, whose features are those of
all tokens and whose last layer has no second stack to attend to; and b = 1 at the start, without which by chance no score is above 0, and
neither w nor what it weighs ever has a gradient.
"""
