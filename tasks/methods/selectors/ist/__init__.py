"""IST: the adapters of a few decoder layers train in each step, drawn at random, with higher probability for more important layers.

Yao et al. 2024, https://arxiv.org/abs/2410.11772, over any adapter whose update is linear in some of its tensors. Each of N layers has a
score I, 0 at first. Every step trains the adapters of int(N / 4) layers, drawn without replacement by the weights sigmoid(-I). Every
`period` steps R different sets S_k of int(N / 2) layers, drawn by the weights sigmoid(I), are suppressed one after the other, which
multiplies their updates by beta, and the loss l_k of a probe is measured:

    r_k = exp(-l_k) - mean of exp(-l),    I_i += eta r_k p_i (1 - p_i)  for all k and i in S_k,    p = sigmoid(I) before

A high I means that a layer can be suppressed without harm: the paper and its code call I importance, here it is `unimportance`.

With `factor: 1` all l_k are equal, and the layers are drawn uniformly; the authors call that RST. With all layers at once (`trained: 1`) the
training is that of the adapter alone, bit for bit.

Our design, not the paper's:
- An update is scaled through the tensors in which it is linear (B of LoRA), which are restored from copies. The authors' code sets peft's
  scaling, which has become a dict.
- The probe is a pack of the training's probe; theirs is 16 training examples. `pretrain.probe: {corpus: domain}` and
  `tune.probe: {corpus: examples}` take it from the training data.
- Layers without an adapter are not counted. At least one layer trains.
Adam's state of a layer that does not train does not change, as in the authors' code.
"""
