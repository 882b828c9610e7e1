"""LoCA: a weight's update is the inverse cosine transform of a few coefficients, whose places in the spectrum are learned too.

Du et al. 2025, https://arxiv.org/abs/2502.06820, eq. 1 and section 4. C is the orthonormal cosine transform (DCT-II), and a layer has
coefficients a at places (r, c) of the spectrum of its weight's update:

    h = W x + alpha C_O^T S C_I x,  S[r_k, c_k] = sum of the a_k there, 0 elsewhere

    r = round(p (O - 1)), c = round(q (I - 1)) with p and q in [0, 0.999]

a starts at 0, p and q uniformly in [0, 1]. A place is an integer and has no derivative. With K = C_O G C_I^T for G = dL/d(C_O^T S C_I), the
gradient of a_k is K[r_k, c_k]. The gradient of its row is approximated by the mean change of the loss when the coefficient moves by one:

    dL/dr_k = a_k (K[r_k + 1, c_k] - K[r_k - 1, c_k]) / 2, at most 1 in size; likewise for its column

Coefficients and places train in turn, 10 steps a and 20 steps the places, for the first tenth of the training; afterwards a trains alone.
Shapes: K = coefficients, T = tokens, O = out, I = in features.

S is never built: coefficient k adds a_k times the outer product of row r_k of C_O and row c_k of C_I, which is a LoRA of rank K with given
matrices. The custom autograd function looks up a row of C at a place; together with torch's own gradient of the products it gives the
equations above. A row is looked up in a table of 4 N cosines, by (2 j + 1) r modulo 4 N, and no N x N matrix is stored.

Counts: the paper reports K numbers for each layer; here 3 K train (a, p and q). The adapter's file holds all of them, so that training can
continue. The same function is also saved as a LoRA in peft's format, whose rank is the number of different rows or of different columns of
the spectrum that are in use, whichever is smaller.

The official code was not accessible; numbers are compared with copies of its functions in a third party's repository.

Our design, not the paper's:
- The schedule counts the engine's optimizer steps. The authors' layers count their own forward passes, so that gradient accumulation or
  activation checkpointing would run the schedule several times as fast.
- Places learn for at least one period of 30 steps; a training that is too short for them to learn is refused. `training.json` holds the share
  of each layer's coefficients that have moved.
- a, p and q are in at least fp32, whatever the base's dtype, and have no weight decay.
- `places: frozen` leaves the places where they were drawn. It is the control.
We know no hyper-parameters for generative language models: K, alpha and the two rates are those of the paper's RoBERTa.
"""
