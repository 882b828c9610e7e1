"""MHR, multi-head routing: each task mixes shared low-rank skills, head by head, and a new task may learn its mixture alone.

Caccia et al., NeurIPS 2023, https://arxiv.org/abs/2211.03831; with `heads: 1` Polytropon, Ponti et al., https://arxiv.org/abs/2202.13914:

    w_qe = sigmoid(Z_qe of the task) / (sum over e of sigmoid(Z_qe) + 1e-12)
    A = concat_q sum_e w_qe A_qe,  B = concat_q sum_e w_qe B_qe,  h = W x + (alpha / r) B A x

A layer's input and output are cut into Q heads; A_qe maps a head of the input to rank r, B_qe maps rank r to a head of the output. Matrices
are mixed, not their products, so each task's change has rank r. A starts as in LoRA, B at 0, Z within 0.001 of 0: nearly equal mixtures.
Shapes: K = tasks, Q = heads, E = skills, I/O = in and out features of the layer, R = rank, S = sequences, P = different tasks of a row, B = rows,
T = tokens of a row.

A training from an adapter on disk (`tune.start`) adapts it, by `adapt`:

- `mhr`: skills and routing continue to train. A task that the adapter knows keeps its row of Z; a new task gets a new row.
- `z`: only the routing trains, Q E numbers in each layer for each task; A and B are frozen.
- `mu`: every task uses the mean of the skills, which trains as one LoRA; there is no routing.

The adapter distinguishes tasks by the names in the examples: in training, in scoring and in generation. A task that it does not know uses
the mean of the known tasks' mixtures; so does text without a task: a chat, a served model, embeddings. A row may hold any number of tasks,
even more than there are skills.

Numbers are those of microsoft/mttl at c66b20d6: scale 1 / r, a learning rate of Z 100 times the others', no decay of Z and no noise on it in
training (as in the authors' configs for T0; peft's Poly always draws noise). Our design, not the paper's:

- A mixture is made for each different task of a row, so that a row of many sequences may have many. The authors and peft have one per row.
- `mu` trains the mean itself. The authors train E copies under equal weights, which is the same for Adam, and E times as slow for SGD.
- Each layer has its own Z; the official option of one Z for a block or for all layers is left out.
"""
