"""Proxy-tuning: steer a large model by what tuning changed in a small one.

Liu et al. 2024, https://arxiv.org/abs/2401.08565, sec. 2:  s = s_M + alpha (s_M+ - s_M-),  p = softmax(s)
so that p is proportional to p_M (p_M+ / p_M-)^alpha. M is the large model, M+ (the expert) the tuned small one and M- (the
antiexpert) the small one before. No weight of M is touched, and none is read but through its logits.
Shapes: B = rows, V = tokens that all three models share.
"""
