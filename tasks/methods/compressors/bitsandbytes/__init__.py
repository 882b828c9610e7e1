"""Weights in 8 or 4 bits, stored and run by bitsandbytes.

Dettmers et al. 2022, https://arxiv.org/abs/2208.07339 (8 bits, one scale a row; columns of outliers are multiplied in 16 bits);
Dettmers et al. 2023, https://arxiv.org/abs/2305.14314, section 3 (4 bits, NF4: quantiles of a normal distribution, a scale for
each block of 64, the scales themselves in 8 bits). With 4 bits only weights are rounded. With 8 bits a layer's
inputs are rounded too, one scale a token: the loss is that of both, not of the weights alone. Linear layers of the decoder are
quantised; embeddings, norms and the head are stored as bfloat16. The folder is an ordinary one: safetensors that
`from_pretrained` opens.
"""
