"""MHR, multi-head routing: each task mixes shared low-rank skills, head by head, and a new task may learn its mixture alone.

Caccia et al., NeurIPS 2023, https://arxiv.org/abs/2211.03831; with `heads: 1` Polytropon, Ponti et al., https://arxiv.org/abs/2202.13914:

    w_qe = sigmoid(Z_qe of the task) / (sum over e of sigmoid(Z_qe) + 1e-12)
    A = concat_q sum_e w_qe A_qe,  B = concat_q sum_e w_qe B_qe,  h = W x + (alpha / r) B A x

A layer's input and output are cut into Q heads; A_qe maps a head of the input to rank r, B_qe rank r to a head of the output. Matrices
are mixed, not their products, so that each task's change has rank r. A starts as LoRA's does, B at 0, Z within 0.001 of 0: all alike.
Shapes: K = tasks, Q = heads, E = skills, I/O = in and out features of the layer, R = rank, S = sequences, P = different tasks of a row, B = rows,
T = tokens of a row.

A training from an adapter on disk (`tune.start`) adapts it, by `adapt`:

- `mhr`: skills and routing train on. A task that the adapter knows keeps its row of Z, a new one has a fresh one.
- `z`: routing alone, Q E numbers of a layer for each task; A and B are held.
- `mu`: every task has the mean of the skills, which trains as one LoRA; there is no routing.

The adapter goes by tasks as examples name them: in training, for losses and for what is written. A task that it does not know has the mean
of the mixtures of those that it knows; so has text of no task: a chat, a served model, embeddings. A row may hold any number of tasks, more
than there are skills too.

Numbers are those of microsoft/mttl at c66b20d6: scale 1 / r, rates of Z 100 times the others' and no decay of it, no noise on it in training
(as the authors' configs for T0; peft's Poly always draws some). Our design, not the paper's:

- Mixtures are made for each different task of a row, so that a row of many sequences has many. The authors' and peft's have one for each row.
- `mu` trains the mean itself. The authors train E copies under equal weights, which for Adam is the same, and for SGD E times as slow.
- Z stands in each layer; that one is shared by a block or by all layers, an option there, is left out.
"""
