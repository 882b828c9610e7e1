"""ZO2: the steps of MeZO, with the blocks of the model in memory one after the other.

Wang et al. 2025, https://arxiv.org/abs/2503.12668; the authors' code, liangyuwang/zo2, was read. The mathematics is MeZO's
(`mezo`), the schedule differs: a block (a decoder layer) is loaded into memory once per pass, and while it is there
  theta_i <- theta_i - lr (g' z'_i + wd theta_i)                 the step before, of the block's own tensors
  h+ <- block(h+; theta_i + eps z_i),  h- <- block(h-; theta_i - eps z_i)
are computed, after which the block is moved back. So the two passes of a step go through the model side by side, with two hidden states, and a
step is applied during the next pass. g = (L+ - L-) / (2 eps) is known when both passes have ended. Weights outside of the blocks (embeddings,
the last norm, the head) stay in memory, with both perturbed values. Blocks are moved while others compute, and at most three are in memory: one
that arrives, one that computes, one that leaves.

On a machine without a GPU, waiting blocks are in a file of the training's work folder, because host memory is what should be saved; the
operating system can drop a file's pages at any time. With a GPU they are in pinned host memory, which a GPU reads several times as fast as a
disk.

Weights, losses and checkpoints equal those of `mezo` to the bit: every tensor has the same operations in the same order, and its part of
z is a function of (seed, step, place). The two hidden states do not form a batch of two, whose products would be summed in another order. A
matrix that embeddings and head share has one z and is updated once. `settle` applies the step that is still due; it is called before
anything is measured or saved.

Differences from the authors' code: their code does not apply the last step, so the model that it evaluates and saves lacks one step. It uses the
learning rate of the next step; draws, perturbs and updates a tied matrix twice; treats seed 0 as no seed; decays norms; and has defaults of lr 1e-3
and weight decay 0.1, where the paper has MeZO's. Its storage in half precision (AMP), in which small steps are lost, is left out, and so are its
buckets: a block's tensors are moved one by one. With n directions or several packs per step, blocks are loaded once for each. So far this was run
on CPUs only.
"""
