"""IST: the adapters of a few decoder layers train at a time, drawn anew for every step, and those that matter more often.

Yao et al. 2024, https://arxiv.org/abs/2410.11772, over any adapter whose update is linear in some of its tensors. Each of N layers has a
score I, 0 at first. Every step trains the adapters of int(N / 4) layers, drawn without replacement by the weights sigmoid(-I). Every
`period` steps R different sets S_k of int(N / 2) layers, drawn by the weights sigmoid(I), are suppressed one after the other, which
multiplies their updates by beta, and the loss l_k of a probe is measured:

    r_k = exp(-l_k) - mean of exp(-l),    I_i += eta r_k p_i (1 - p_i)  for all k and i in S_k,    p = sigmoid(I) before

A high I is that of a layer that can be suppressed without harm: the paper and its code call I importance, here it is `unimportance`.

With `factor: 1` all l_k are equal, and the layers are drawn uniformly; the authors call that RST. All layers at once (`trained: 1`) are the
adapter alone, bit for bit.

Our design, not the paper's:
- An update is scaled by the tensors that it is linear in (B of LoRA), which come back from copies. The authors' code sets peft's scaling,
  which has become a dict.
- The probe is a pack of the training's probe, where theirs is 16 examples that train: `pretrain.probe: {corpus: domain}` and
  `tune.probe: {corpus: examples}` make it of what trains.
- Layers without an adapter are not counted. At least one layer trains.
Adam's state of a layer that rests stays as it is, as in the authors' code.
"""
