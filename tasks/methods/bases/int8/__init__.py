"""LLM.int8(): frozen weights in 8 bits, multiplied as integers except for the few outlier features.

Dettmers et al. 2022, https://arxiv.org/abs/2208.07339, eq. 8:

    C ≈ Σ_{h in outliers} X_h W_h  +  S · Σ_{h elsewhere} X8_h W8_h

Rows of X and outputs of W are scaled so that their largest number is ±127, S undoes both scales, and features that reach `threshold` are
multiplied in 16 bits. Embeddings, norms and the head are not quantised.
A wrapper over transformers' `BitsAndBytesConfig`.
"""
