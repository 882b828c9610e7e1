"""Weights in 8 or 4 bits, stored and run by bitsandbytes.

Dettmers et al. 2022, https://arxiv.org/abs/2208.07339 (8 bits, one scale for each row; outlier columns are multiplied in 16 bits);
Dettmers et al. 2023, https://arxiv.org/abs/2305.14314, section 3 (4 bits, NF4: quantiles of a normal distribution, a scale for
each block of 64, the scales themselves in 8 bits). With 4 bits only weights are rounded. With 8 bits a layer's
inputs are rounded too, with one scale for each token, so the loss in quality comes from both. Linear layers of the decoder are
quantised; embeddings, norms and the head are stored as bfloat16. The folder is an ordinary one: safetensors that
`from_pretrained` opens.
"""
