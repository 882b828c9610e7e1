"""Middo: the model's own signals show which examples are too hard for it, of poor quality, or isolated.

Tang et al. 2025, https://arxiv.org/abs/2508.21589, by their code (Word2VecT/Middo, d3a903f):

  hard    l_i > mean(l) + m std(l)  before the training, and again after it;  l = nats a token of the response
  low     q_i < mean(q) - m std(q);  q = mean of six judgements of the model itself, 0 to 10
  sparse  a_i < mean(a) - m std(a);  a = mean cosine between a prompt and the k others nearest to it

All comparisons are strict. std is the population's, except for q, where it is the sample's (n - 1). Chosen examples that are hard or low are
to be rewritten; sparse ones stay, and similar examples are added.
Ours: a cap on each set, which keeps the worst; a score counts only at the place where it was asked for (the paper takes the first number
anywhere, and 0 if there is none); the expected digit as a score; the wording of all questions; and the controls. A value that
is unknown is in no mean and in no set.
"""
