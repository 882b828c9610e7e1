"""ComPEFT: the change that fine-tuning made, stored as the signs of its largest entries times one number.

Yadav, Choshen, Raffel, Bansal 2023, https://arxiv.org/abs/2311.13171, algorithm 1. Nothing is trained. With tau all entries
of all tensors in one vector of length n, in the order of their names, and sigma its standard deviation:
  tau^ = alpha sigma sign(tau)  where |tau| is at least the (n - floor(k n))-th smallest magnitude,  0 elsewhere
k and alpha are the values of a grid that are best on validation data. tau is the difference from a reference: 0 for a LoRA, whose A and B
are used directly, 1 for (IA)^3, the base's weights for full fine-tuning.

The threshold is the authors': it keeps floor(k n) + 1 entries, and all ties with the last one. At k = 1 every entry becomes
alpha sigma sign(tau); the authors' functions return the input unchanged at 100 (percent). They have no encoder; ours
is the lossless Golomb–Rice code whose size they state (`rice.py`). `scope: tensor` is our design, not the paper's: with one
threshold for all tensors, nearly all kept entries can belong to A, because of its random start, and B is lost. The baselines are the
paper's, with STC's scalar as STC defines it, the mean of magnitudes (Sattler et al. 2019, https://arxiv.org/abs/1903.02891).
"""
