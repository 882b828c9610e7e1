"""Middo: the model's own signals say which examples are too hard for it, of poor quality, or alone.

Tang et al. 2025, https://arxiv.org/abs/2508.21589, by their code (Word2VecT/Middo, d3a903f):

  hard    l_i > mean(l) + m std(l)  before the training, and again after it;  l = nats a token of the response
  low     q_i < mean(q) - m std(q);  q = mean of six judgements of the model itself, 0 to 10
  sparse  a_i < mean(a) - m std(a);  a = mean cosine between a prompt and the k others nearest to it

All comparisons are strict. std is that of the population, but of the sample (n - 1) for q. Chosen examples that are hard or low are
to be rewritten; sparse ones stay and get company.
Ours: a cap on each set, the worst first; a score counts where it stands where one was asked for (the paper takes the first number
anywhere, and 0 where there is none); the expected digit as a score; the wording of all questions; and the controls. A value that
is not known is in no mean and in no set.
"""
