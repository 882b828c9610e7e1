"""The loss gap: how much higher the model's loss is on what came in than on held-out data, in nats per token.

    gap = Σ nats / Σ tokens (incoming) - Σ nats / Σ tokens (reference)

A permutation test of |gap| over items says how likely it is by chance: data that are easier than before have changed too. Its
interval is put together from those of both samples (`tasks.core.statistics`: Student's of fewer than ten items, else the bootstrap's; Zou &
Donner 2008, Construction of Confidence Limits about Effect Measures). A plain bootstrap of both misses the gap in a fifth of cases where
five items came in. The reference must be texts that the model was not trained on: what it has learnt by heart would make everything else
look strange.
Shapes: N = reference, M = incoming, B = relabellings or resamples.
"""
