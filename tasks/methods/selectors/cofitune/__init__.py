"""CoFiTune: the feed-forward blocks of one band of layers train, and units that general skill needs change less.

Zhang et al. 2024, https://arxiv.org/abs/2404.10306. Coarse: only `modules` of the layers between 25 % and 50 % of the depth train. Fine: with
a multiplier g = 1 on each unit, two passes of a batch under dropout p and their logits z1 and z2, the importance of a unit is
the gradient of 0.1 KL(softmax(z2), softmax(z1)) at its g, summed over the batches of the probe and divided by their tokens. In each layer

    s = |tanh((importance - mean) / standard deviation)|,  0 to 1

and the step of row r of a weight is multiplied by 1 - s_r. Units are the channels of up_proj (its rows), the outputs of down_proj (its rows)
and the heads (rows of q_proj, k_proj and v_proj). Other named modules train without a mask.

Under Adam a mask on gradients has no effect: a gradient that is always half as large leads to the same step. So here a row is slowed by

    y = (W + diag(1 - s) D) x

in which Adam updates D as usual; merged, it is a plain weight. Weight decay, if set, pulls towards the model's own weights.
Shapes: I, O = features in and out; U = units of a layer; N = trained tokens; V = vocabulary.

Compared with the authors' code (rattlesnakey/CoFiTune), with these differences:
- Its masks multiply gradients, and have a wrong layout: the entries of a vector of units follow each other along the flattened gradient, not
  by rows. `mask: official_tiled` reproduces both.
- Signed gradients are summed, as there; `accumulate: absolute` sums their magnitudes. Every batch counts equally here. There the gradient
  of a multiplier is not reset between batches, so that of N batches the first counts N times and the last once.
- The probe of stage `tune` is the first pack of its examples, which gives the importance for the domain, unless `tune.probe` names general
  texts.
- The KL is over trained tokens of the probe's packs, each sequence by itself.
- With grouped heads a row of k_proj or v_proj has the largest s of the heads that read it.
"""
