"""SHERL: a small module beside a frozen model fuses the outputs of many layers into the input of the last layer, which saves memory.

Diao et al., ECCV 2024, https://arxiv.org/abs/2407.07523. h_1 ... h_N are the embeddings and the outputs of every second layer below the last,
the deepest of them h_N, which is what the last layer would have read:

    u_i = ReLU(W1_i h_i + b1_i),  z_i = (W2_i u_i + b2_i + u_i) * sigmoid(W3_i u_i + b3_i)
    red_i = sum_j ReLU(cos(z_i, z_j)) over the shallow ones, i, j < N
    a_i = ReLU(w^T (z_i * z_N) + b) / red_i,  g = z_N + sum_i a_i z_i / (sum_j a_j + 1e-6)
    h' = W_o ReLU(g) + b_o + tanh(gamma / 0.1) h_N,  gamma = 0 at the start

The last layer reads h', and a trained norm replaces the model's last norm. A token's h' depends on its own features alone, so
causality, packs and caches work as before.
Shapes: B = rows, T = tokens, H = hidden size, R = inner width, N = features.

The backward pass goes through the head, the last layer and the module. Lower layers save nothing for it, since none of their tensors
needs a gradient. If something below trained, they would save everything, so that is refused. In generation, too, the whole model runs; the
module cannot be merged.

With the paper's start h' does not contain h_N at all, so a fresh model performs poorly. Our `start: residual` begins as the base up to a
ten-thousandth: gamma = 0.5, for which the gate is 0.9999, W_o and b_o = 0, and the norm is the model's own. `every: 0` has no shallow features
and is the control: it saves equally little for the backward pass.
Numbers are those of Paranioar/SHERL (36b44965), for T5. Our design, not the paper's: the application to a decoder alone, with the features of
all tokens and without an encoder for the last layer to attend to; and b = 1 at the start. Without it, by chance no score may be above 0, and
then neither w nor the features that it weighs ever have a gradient.
"""
