"""LoRA: a frozen weight plus a trained product of two thin matrices.

Hu et al. 2021, https://arxiv.org/abs/2106.09685, eq. 3:  h = W x + (alpha / rank) B A x, with B = 0 at the start.
A wrapper over peft's `LoraConfig`.
"""
