"""Cross entropy, and two looks at each row that are to agree: what dropout or an adapter draws at random is not to change the answer.

Zhang et al. 2023 (MoSA), https://arxiv.org/abs/2312.02923; as R-Drop, Liang et al. 2021, https://arxiv.org/abs/2106.14448, but that the second
look has no cross entropy of its own. p and q are the distributions of a token at the two looks, y the token:

    loss = -log p(y) + w (KL(sg(q) || p) + KL(sg(p) || q)) / 2,  sg stops the gradient

Mean over the trained tokens, each with its weight. A step computes twice what it does without. Where nothing is drawn, by neither dropout nor
adapter, the looks are the same and it is cross entropy. The authors' code can give the second look a cross entropy too, whose weight is 0 in
all of their scripts; it is left out.
Shapes: N = trained tokens of the pack.
"""
