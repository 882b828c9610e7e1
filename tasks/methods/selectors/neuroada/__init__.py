"""NeuroAda: of every output neuron a few weights train, those of the largest magnitude.

Zhang et al. 2025, https://arxiv.org/abs/2510.18940. Of each row of a weight W the k entries of the largest |W| get a trained difference:

    y = (W + D) x + b,  where D is zero but at those entries, and starts as zero

so that every neuron can adapt and sum of k O numbers train. Only they have a gradient that is kept and an optimizer state. The entries
are chosen once, before training, and kept in checkpoints: another machine may break ties in another way. Weight decay, where it is set,
pulls towards the model's own weights.

`order: smallest` and `random` are the authors' controls, per row as well. peft's `SupertuningConfig` looks alike and is another method: it
takes the largest of a whole layer, which leaves neurons without any. Experts of a mixture whose weights are one tensor of three dimensions
stay frozen, and the run says so.
Shapes: I, O = features in and out; K = entries of a row that train; N = O K.
"""
