"""Bi-LoRA: a LoRA whose matrices have two values each while they train, or 4 or 16, so that many more ranks fit into as many bytes.

Jie, Wang, Deng 2023, https://arxiv.org/abs/2307.16867:  h = W x + s B_b A_b x, where for M = A and B, and b bits,

    M_b = sigma Q((M - mu) / (sigma + 1e-5)) + mu,  mu = mean(M),  sigma = std(M)

Q rounds to the nearest of 2^b levels, each of which is the median of its cell of a standard normal distribution: ±0.6745 for one bit,
±0.3778 and ±1.2657 for two. In the backward pass Q is the identity; mu and sigma have their own gradients. M is trained in at least fp32,
and quantised in every forward pass.
Shapes: I = in, O = out features, R = rank.

Training takes the memory of a LoRA of that rank; only the file is small. `compress.compressor: levels` with the same number of bits stores
A_b and s B_b without loss: b R (I + O) bits for each layer, and the levels. `bits: 32` quantises nothing and is the control.

As in the authors' code: B starts as small noise, not as zero, since a matrix of zeros has no deviation and would stay zero; a
fresh model therefore differs from the base. Weight decay acts on M, and so shrinks sigma. A dropout of 0.1 is between A and B. The authors
choose s for each task from 0.01 to 100, by the accuracy on its test set. Use validation loss instead, and check the loss before the first
step, which a large s changes.

Our design, not the paper's:
- A_b is exactly sigma Q + mu, so that saved values are those of the training. Their code computes Q as M + (Q - M), and rounding spreads
  its 2^b values. Levels are iterated until they converge; theirs take 500 rounds from zero, and are 1e-6 off for 4 bits.
- The saved adapter holds M, so that a training can continue. The LoRA beside it in peft's format holds A_b and s B_b, for other programs
  and for compressors. M_b is never quantised again, since that would change it.
- The paper has no language model. The targets are the authors' for vision transformers; s = 1 is our starting value.
"""
