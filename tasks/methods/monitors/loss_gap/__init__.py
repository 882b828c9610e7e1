"""The loss gap: the model's loss on incoming data minus its loss on held-out data, in nats per token.

    gap = Σ nats / Σ tokens (incoming) - Σ nats / Σ tokens (reference)

A permutation test of |gap| over items gives the p-value; it is two-sided, since easier data have changed too. The confidence interval is
combined from those of both samples (`tasks.core.statistics`: Student's t for fewer than ten items, else the bootstrap; Zou & Donner 2008,
Construction of Confidence Limits about Effect Measures). For five incoming items a plain bootstrap of both samples would miss the gap in a
fifth of cases. The reference must be texts that the model was not trained on: beside memorised texts, all other data would seem to have
changed.
Shapes: N = reference, M = incoming, B = relabellings or resamples.
"""
