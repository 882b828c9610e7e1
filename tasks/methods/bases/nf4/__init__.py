"""NF4: frozen weights in 4 bits, at levels that split a normal distribution evenly; with adapter `lora` it is QLoRA.

Dettmers et al. 2023, https://arxiv.org/abs/2305.14314, eq. 5 and 6:

    y = x doubleDequant(c₁, c₂, W) + x A B,   doubleDequant(c₁, c₂, W) = dequant(dequant(c₁, c₂), W)

W holds numbers of 16 levels, the quantiles of N(0, 1) scaled to [−1, 1]. Every 64 of them share a scale; the scales c₂ are
themselves stored in 8 bits, and every 256 of them share a scale c₁. Embeddings, norms and the head are not quantised.
A wrapper over transformers' `BitsAndBytesConfig`.
"""
