"""LoCA: a weight's update is the inverse cosine transform of a few coefficients, and where in the spectrum they stand is learned too.

Du et al. 2025, https://arxiv.org/abs/2502.06820, eq. 1 and section 4. C is the orthonormal cosine transform (DCT-II), and a layer has
coefficients a at places (r, c) of the spectrum of its weight's update:

    h = W x + alpha C_O^T S C_I x,  S[r_k, c_k] = sum of the a_k there, 0 elsewhere

    r = round(p (O - 1)), c = round(q (I - 1)) with p and q in [0, 0.999]

a starts at 0, p and q evenly in [0, 1]. A place is a whole number and has no derivative. With K = C_O G C_I^T for G = dL/d(C_O^T S C_I), the
gradient of a_k is K[r_k, c_k], and that of its row is taken as the mean change of the loss when the coefficient moves by one:

    dL/dr_k = a_k (K[r_k + 1, c_k] - K[r_k - 1, c_k]) / 2, at most 1 in size; likewise for its column

Either a trains or the places do: 10 steps a, 20 steps the places, and so on for the first tenth of the training; afterwards a alone.
Shapes: K = coefficients, T = tokens, O = out, I = in features.

S is never built: coefficient k adds a_k times row r_k of C_O, by row c_k of C_I times x, which is LoRA of rank K with given matrices. The
autograd function is the look-up of a row of C at a place: with torch's own gradient of the products around it, it gives the equations
above. A row is looked up in a table of 4 N cosines, by (2 j + 1) r modulo 4 N, and no N x N matrix is kept.

Counts: K numbers of a layer are reported in the paper, and 3 K train here (a, p and q). The adapter's file holds all of them, so that it can
train on. Beside it stands the same function as a LoRA in peft's format, whose rank is the number of different rows or columns of the
spectrum that are in use, whichever is smaller.

The official code could not be read where it stands; numbers are held against its functions as a third party's repository copies them.

Our design, not the paper's:
- The engine's optimizer steps decide what trains. The authors' layers count their own forward passes, so that gradient accumulation or
  activation checkpointing would run the schedule several times as fast.
- Places learn for one period of 30 steps at least, and a training too short for any is refused. `training.json` says what share of
  a layer's coefficients has moved.
- a, p and q are in fp32 at least, whatever the base's dtype, and none of them decays.
- `places: frozen` leaves them where they were drawn. It is the control.
No hyper-parameter for language models that generate is known to us: K, alpha and the two rates are those of the paper's RoBERTa.
"""
