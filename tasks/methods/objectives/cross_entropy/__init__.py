"""Cross-entropy: the weighted sum of the tokens' negative log-likelihoods.

L = sum_n w_n (-log p(y_n | y_<n)), in nats. Shapes: N = trained tokens of the batch.
"""
