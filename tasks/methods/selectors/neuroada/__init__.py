"""NeuroAda: in every output neuron, the few weights of the largest magnitude train.

Zhang et al. 2025, https://arxiv.org/abs/2510.18940. Of each row of a weight W the k entries of the largest |W| get a trained difference:

    y = (W + D) x + b,  where D is zero but at those entries, and starts as zero

so that every neuron can adapt; the sum of k O over layers is the number of trained values. Only they have a stored gradient and an optimizer
state. The entries are chosen once, before training, and stored in checkpoints, since another machine may break ties differently. Weight decay,
if set, pulls towards the model's own weights.

`order: smallest` and `random` are the authors' controls, also by row. peft's `SupertuningConfig` looks similar but is another method: it
takes the largest entries of a whole layer, which leaves some neurons without any. Experts of a mixture whose weights are one tensor of three
dimensions stay frozen, and the run reports it.
Shapes: I, O = features in and out; K = entries of a row that train; N = O K.
"""
