"""By the nearest bundle of hidden states of several layers: training-free, EAR-style.

    h(x) = sum_l key_l * (P^T f_l(x)),    B_k = h(m_k),    route(x) = argmax_k cos(h(x), B_k)
f_l(x) is the mean of the base's hidden states of layer l over a prompt, m_k its mean over training prompts of task k. From both the mean of all
m_k is subtracted, and both are divided by the root of the mean variance, by dimension. h is linear, so h(m_k) is the bundle of these prompts divided
by their number, and cosines do not depend on that factor. A bank of one member cannot be centred, so its member always has the same similarity.
The idea is EAR's (Daniels et al. 2023, https://arxiv.org/abs/2308.02084, of which no code is public), bundles and cosines are HDFF's; the card of
monitor `hdc` lists the differences from both. Router `nearest` uses the last layer alone, and distances.
Shapes: N = prompts, K = members, L = layers, H = hidden size of the base, D = size of a hypervector.
"""
