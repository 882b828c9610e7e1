"""SpIEL: a fixed number of weights trains; at intervals those of the smallest change are dropped, and those of large gradients grown.

Ansell et al. 2024, https://arxiv.org/abs/2401.16405. Of each linear layer k entries have a trained difference D to W, at first drawn at
random. Every R steps the int(p k) entries of the smallest |D| are dropped and equally many are grown, which start as zero. p is 1 the first
time, since nothing was known before, and afterwards p0 (1 - n / N) in step n of N; with `policy: cosine` it is p0 (1 + cos(pi n / N)) / 2,
including the first time. The grown entries are:

    AG  of the k entries of the largest |dL/dW| in the first pack of a phase, those of the largest |sum of dL/dW| over its A or A + 1 steps
    MA  the entries of the largest rho kappa, where no gradient of the others is known: u = min(rho, kappa) + g^2 at each entry that
        trains, rho and kappa the largest u so far of its row and of its column, as SM3 keeps them

An entry that is dropped and grown at the same time keeps its difference and its optimizer state. With AG a grown entry starts with the Adam
state that its mean gradient and mean squared gradient would have led to, so that its next step has the usual size:
m = mean(g) (1 - b1^t), v = mean(g^2) (1 - b2^t).
Shapes: I, O = features in and out; K = entries of a layer that train, and its candidates; M = entries that move.

Compared with the authors' code (AlanAnsell/peft), with these differences:
- t is torch's count of Adam steps for a whole tensor. Theirs is an age for each entry; the next step is the same.
- Gradients are summed by step, not by pack: their initial states are too small if a step has several packs.
- MA works with any optimizer, AdamW by default; theirs uses SM3 itself. A grown entry starts with m = 0 and v = min(rho, kappa) / t, also
  multiplied by 1 - b2^t: without v its first step would be three times too large.
- Gradients are taken before clipping, as in theirs.
- Experts of a mixture whose weights are one tensor of three dimensions stay frozen, and the run reports it; they count in `density`.
"""
