"""By the nearest bundle of hidden states of several layers: training-free, EAR-style.

    h(x) = sum_l key_l * (P^T f_l(x)),    B_k = h(m_k),    route(x) = argmax_k cos(h(x), B_k)
f_l(x) is the mean of the base's hidden states of layer l over a prompt, m_k its mean over training prompts of task k; both less the mean of all
m_k, and divided by the root of the mean variance, by dimension. h is linear, so h(m_k) is the bundle of these prompts over their number, which no
cosine sees. A bank of one member has nothing to centre by, and its member is as near as any.
The idea is EAR's (Daniels et al. 2023, https://arxiv.org/abs/2308.02084, of which no code is public), bundles and cosines are HDFF's; what differs from both is
said in the card of monitor `hdc`. `nearest` beside it sees the last layer alone, and distances.
Shapes: N = prompts, K = members, L = layers, H = hidden size of the base, D = size of a hypervector.
"""
