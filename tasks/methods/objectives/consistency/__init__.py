"""Cross entropy plus the divergence of two looks at each row, so that random draws of dropout or an adapter do not change the answer.

Zhang et al. 2023 (MoSA), https://arxiv.org/abs/2312.02923; as R-Drop, Liang et al. 2021, https://arxiv.org/abs/2106.14448, except that the second
look has no cross entropy of its own. p and q are the distributions of a token at the two looks, y the token:

    loss = -log p(y) + w (KL(sg(q) || p) + KL(sg(p) || q)) / 2,  sg stops the gradient

Mean over the trained tokens, each with its weight. A step costs twice as much as with cross entropy. If neither dropout nor the adapter draws
anything, the looks are equal and the loss is cross entropy. The authors' code has an optional cross entropy of the second look, whose weight is 0
in all of their scripts; it is left out.
Shapes: N = trained tokens of the pack.
"""
