"""By the nearest centroid of hidden states: training-free.

    d_k(x) = mean_h (x_h - m_kh)^2 / s_h,    s = mean_k v_k,    route(x) = argmin_k d_k(x)
x is the mean of the base's last hidden states over a prompt; m_k and v_k are its mean and variance over training prompts of task k. A
few numbers of a hidden state are very large in all prompts. Division by s gives them the same influence as the others, which cosines and
plain distances do not. The mean leaves out numbers with s = 0. This is a linear discriminant with a diagonal covariance. A prompt
that resembles those of a task has d near 1 to it.
Shapes: N = prompts, K = members, L = layers, H = hidden size of the base.
"""
