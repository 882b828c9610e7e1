"""VeRA: all layers share one frozen random pair A, B, and each learns two vectors that scale it.

Kopiczko et al. 2023, https://arxiv.org/abs/2310.11454, eq. 2:  h = W x + Λ_b B Λ_d A x, with b = 0 and d = d_initial at the start.
Layers of smaller shapes use the first rows of B and the first columns of A. A and B are frozen and need not be thin (sec. 3.1): the
rank may exceed a layer's size.
A wrapper over peft's `VeraConfig`. It saves A and B with the vectors, since torch does not guarantee equal draws across versions.
"""
