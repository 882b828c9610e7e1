"""FourierFT: a weight's update is the inverse Fourier transform of a few learned coefficients at fixed random places.

Gao et al. 2024, https://arxiv.org/abs/2405.03003, eq. 2-4:

    F[j_k, l_k] = c_k for k = 1 … n, 0 elsewhere;   S = IDFT₂(F);   h = W x + alpha · Re(S) x

The places (j, l) are drawn once and are the same in all layers of one shape. The coefficients c start as standard normal noise, so
a fresh model differs from the base.
A wrapper over peft's `FourierFTConfig`. The paper adapts q and v; here all linear layers are the default.
"""
