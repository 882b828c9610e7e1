"""ZO2: the steps of MeZO, with the blocks of the model in memory one after the other.

Wang et al. 2025, https://arxiv.org/abs/2503.12668; the code of the authors, liangyuwang/zo2, was read. The mathematics are MeZO's
(`mezo`), the schedule is another: a block (a decoder layer) comes to memory once a pass, and while it is there
  theta_i <- theta_i - lr (g' z'_i + wd theta_i)                 the step before, of the block's own tensors
  h+ <- block(h+; theta_i + eps z_i),  h- <- block(h-; theta_i - eps z_i)
after which it goes back. So the two passes of a step go through the model side by side, with two hidden states, and the step itself is
made in the pass after it. g = (L+ - L-) / (2 eps) is known when both have come to the end. What lies outside of the blocks (embeddings,
the last norm, the head) stays in memory, at both sides of theta. Blocks arrive and leave beside the computation, three at most
are in memory: one that arrives, one that computes, one that leaves.

Where blocks wait: on a machine without a GPU in a file of the training's work folder, as the memory that is to be spared is the host's
own and the disk is all there is beside it; the pages of a file can be given up at any time. With a GPU in pinned memory of the host, which a
GPU reads several times as fast as a disk.

Weights, losses and checkpoints are those of `mezo` to the bit: every tensor sees the same operations in the same order, and its part of
z is a function of (seed, step, place). The two hidden states are not one batch of two, whose products are summed in another order. A
matrix that embeddings and head share has one z and is moved once. `settle` makes the step that is still due; it is called before
anything is measured or saved.

Differences from the authors' code, which we read: theirs makes no last step, so that what it evaluates and saves lacks one; takes the learning rate
of the step after for a step; draws a tied matrix twice, perturbs and moves it twice; seeds 0 as if there were no seed; decays norms;
and has defaults of lr 1e-3 and weight decay 0.1, where the paper has MeZO's. Its storage in half precision (AMP), in which small steps are
lost, is left out, and so are its buckets: a block's tensors travel one by one. With n directions or several packs a step, blocks come once for
each. Run on CPUs alone so far.
"""
