"""S²FT: only a few whole attention heads and a few whole channels of the feed-forward blocks train.

Yang et al. 2024, https://arxiv.org/abs/2412.06289. Of each matrix one dense slice trains, and the rest is frozen:

    down_proj, o_proj   y = W x + s2 x[idx]             s2 is (O, N): columns
    up_proj, v_proj     y = W x, then y[idx] += s2 x    s2 is (N, I): rows

s2 starts as zero and is added to W exactly. The authors permute the weights so that idx is a range. Here the weights are not permuted
and idx is stored: the numbers are the same, and biases and grouped heads need no special treatment. A head of o_proj is a query head, one
of v_proj a key-value head. Weight decay, if set, pulls towards the model's own weights.
Shapes: I, O = features in and out; L = layers; U = units (heads or channels) of a layer; N = columns or rows that train.

Our design, not the paper's: a ratio above 0 lets at least one unit train; and the exact definition of the scores, which the paper describes only
in words.
"""
