"""Bi-LoRA: a LoRA whose matrices have two values each while they train, or 4 or 16, so that many more ranks fit into as many bytes.

Jie, Wang, Deng 2023, https://arxiv.org/abs/2307.16867:  h = W x + s B_b A_b x, where for M = A and B, and b bits,

    M_b = sigma Q((M - mu) / (sigma + 1e-5)) + mu,  mu = mean(M),  sigma = std(M)

Q takes the nearest of 2^b levels, which are each the median of their cell of a standard normal: ±0.6745 for one bit, ±0.3778 and
±1.2657 for two. Going backward Q is the identity; mu and sigma have their own gradients. M is trained in fp32 at least, and quantised
anew in every forward.
Shapes: I = in, O = out features, R = rank.

Training takes the memory of LoRA of that rank; what is small is the file. `compress.compressor: levels` with the same number of bits stores
A_b and s B_b without loss: b R (I + O) bits of a layer, and the levels. `bits: 32` quantises nothing and is the control.

As in the authors' code: B starts as small noise, not as zero, since a matrix of zeros has no deviation and would stay zero, so that a
fresh model differs from the base; weight decay acts on M, and so shrinks sigma; a dropout of 0.1 stands between A and B. They choose
s for each task of 0.01 to 100, by the accuracy on its test set; take validation loss, and look at the loss before the first step,
which a large s moves.

Our design, not the paper's:
- A_b is sigma Q + mu to the last bit, where their code computes Q as M + (Q - M), whose 2^b values are smeared by rounding: saved values
  are those that were trained with. Levels are iterated until they stand; theirs are 500 rounds from zero, 1e-6 off for 4 bits.
- The saved adapter holds M, so that a training can go on; the LoRA beside it in peft's format holds A_b and s B_b, for other programs
  and for compressors. M_b is never quantised again: that would alter it.
- No language model is in the paper. Targets are the authors' for vision transformers, s = 1 is our start.
"""
