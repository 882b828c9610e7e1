"""SpIEL: a fixed number of weights trains, and which they are changes: the weakest are dropped, those of large gradients are grown.

Ansell et al. 2024, https://arxiv.org/abs/2401.16405. Of each linear layer k entries have a trained difference D to W, at first drawn at
random. Every R steps the int(p k) of the smallest |D| are dropped and as many entries grown, which start as zero. p is 1 at the first
time, since nothing was known before, and afterwards p0 (1 - n / N) in step n of N; with `policy: cosine` it is p0 (1 + cos(pi n / N)) / 2,
the first time included. What is grown:

    AG  of the k entries of the largest |dL/dW| in the first pack of a phase, those of the largest |sum of dL/dW| over its A or A + 1 steps
    MA  the entries of the largest rho kappa, where no gradient of the others is known: u = min(rho, kappa) + g^2 at each entry that
        trains, rho and kappa the largest u so far of its row and of its column, as SM3 keeps them

An entry that is dropped and grown at once keeps its difference and its optimizer's state. A grown one of AG starts with the state of
Adam that its mean gradient and mean squared gradient would have led to, so that its next step has the usual size:
m = mean(g) (1 - b1^t), v = mean(g^2) (1 - b2^t).
Shapes: I, O = features in and out; K = entries of a layer that train, and its candidates; M = entries that move.

Held against the authors' code (AlanAnsell/peft), with these differences:
- t is the count of steps that torch's Adam has for a whole tensor. Theirs is an age for each entry, with the same next step.
- Gradients are added up by step, not by pack: their seeds are too small where a step has several packs.
- MA steps by any optimizer, AdamW by default; theirs by SM3 itself. A grown entry starts with m = 0 and v = min(rho, kappa) / t, once
  more times 1 - b2^t: without v its first step would be three times too large.
- Gradients are those before clipping, as theirs.
- Experts of a mixture whose weights are one tensor of three dimensions stay frozen, and the run says so; they count in `density`.
"""
