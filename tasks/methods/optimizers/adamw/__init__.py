"""AdamW: Adam with weight decay decoupled from the gradient.

Loshchilov & Hutter 2017, https://arxiv.org/abs/1711.05101, algorithm 2. A wrapper over `torch.optim.AdamW`.
"""
