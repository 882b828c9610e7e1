"""CoFiTune: the feed-forward blocks of one band of layers train, and units that general skill needs move less.

Zhang et al. 2024, https://arxiv.org/abs/2404.10306. Coarse: only `modules` of the layers between 25 % and 50 % of the depth train. Fine: with
a multiplier g = 1 on each unit, two passes of a batch under dropout p and their logits z1 and z2, the importance of a unit is
the gradient of 0.1 KL(softmax(z2), softmax(z1)) at its g, summed over the batches of the probe and divided by their tokens. In each layer

    s = |tanh((importance - mean) / standard deviation)|,  0 to 1

and row r of a weight moves by 1 - s_r of its usual step. Units are the channels of up_proj (its rows), the outputs of down_proj (its rows)
and the heads (rows of q_proj, k_proj and v_proj). Other modules that are named train without a mask.

Under Adam a mask on gradients does nothing: a gradient that is always half as large leads to the same step. So here a row is slowed by

    y = (W + diag(1 - s) D) x

whose D Adam moves as ever; merged, it is a plain weight. Weight decay, where it is set, pulls towards the model's own weights.
Shapes: I, O = features in and out; U = units of a layer; N = trained tokens; V = vocabulary.

Held against the authors' code (rattlesnakey/CoFiTune), with these differences:
- Its masks multiply gradients, and are laid out wrongly: the entries of a vector of units follow each other along the flattened gradient, not
  by rows. `mask: official_tiled` does both.
- Gradients are summed as they are signed, as there; `accumulate: absolute` sums their magnitudes. Every batch counts alike: there the gradient
  of a multiplier is not set back between batches, so that of N batches the first counts N times and the last once.
- The probe of stage `tune` is the first pack of its examples, unless `tune.probe` names general texts: importance is then that of the domain.
- The KL is of trained tokens of the probe's packs, each sequence by itself.
- With grouped heads a row of k_proj or v_proj has the largest s of the heads that read it.
"""
