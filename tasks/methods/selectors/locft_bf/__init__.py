"""LocFT-BF: many facts are trained into one well-chosen weight matrix, all of them in every epoch, in batches.

Yang et al. 2026, https://arxiv.org/abs/2509.22072. Earlier fact editing by fine-tuning trained the edits one by one, each until its loss
was low, and the first edits were forgotten. Breadth-first training (BF) goes through all edits in every epoch, with Adam at a constant
learning rate without decay; a batch whose loss is below 0.01 makes no step. One module of one layer trains, and all else is frozen: the authors
chose down_proj of layer 6 of 28 (Qwen2.5-7B), 22 of 32 (Llama-3-8B), and all of layer 23 of 32 (Mistral-7B).

The selector chooses only the place. The rest of the method is settings of the training: `floor: 0.01`, `schedule: constant_with_warmup`,
`warmup: 0`, `accumulation: 1`, a `pack_tokens` that holds a batch, `mftcoder: {aggregation: case2}` (the mean over edits of the mean over an
answer's tokens) and answers that end the turn. `params/edits.yaml` has them.

Differences from the authors' code (ICT-STAR/LocFT):
- A layer is found by its number. Their `layers.2` matches `layers.20` too.
- Training does not end early after an epoch with a mean loss below 0.01. Such an epoch makes steps only for the batches that are still above it.
- With an adapter, the adapters of that place train.
"""
