"""The loss gap: how much higher the model's loss is on what came in than on held-out data, in nats per token.

    gap = Σ nats / Σ tokens (incoming) - Σ nats / Σ tokens (reference)

A permutation test of |gap| over items says how likely it is by chance: data that are easier than before have changed too. Its
interval is a percentile bootstrap of both samples, each resampled on its own. The reference must be texts that the model was not
trained on: what it has learnt by heart would make everything else look strange.
Shapes: N = reference, M = incoming, B = relabellings or resamples.
"""
