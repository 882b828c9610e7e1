"""Proxy-tuning: steer a large model by the change that tuning made in a small one.

Liu et al. 2024, https://arxiv.org/abs/2401.08565, sec. 2:  s = s_M + alpha (s_M+ - s_M-),  p = softmax(s)
so that p is proportional to p_M (p_M+ / p_M-)^alpha. M is the large model, M+ (the expert) the tuned small one and M- (the
antiexpert) the small one before tuning. No weight of M is changed or read; only its logits are used.
Shapes: B = rows, V = tokens that all three models share.
"""
