"""MMD: the distance between the mean embeddings of two samples in a kernel's space, and a permutation test of it.

Gretton et al. 2012, A Kernel Two-Sample Test, https://jmlr.org/papers/v13/gretton12a.html, eq. 3, the estimate without bias:

    MMD² = Σ_{i≠j} k(x_i, x_j) / (n (n - 1)) + Σ_{i≠j} k(y_i, y_j) / (m (m - 1)) - 2 Σ_{i,j} k(x_i, y_j) / (n m)

with k(a, b) = exp(-|a - b|² / (2 σ²)) over vectors of unit length, and σ the median distance of the pooled items (their sec. 8). The test
is exact, because σ treats all items alike. With enough items it detects any difference between the distributions.
Shapes: N = reference, M = incoming, T = N + M, B = relabellings, D = width of an embedding.
"""
