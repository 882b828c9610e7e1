"""HDC: how far what came in lies from the bundle of the nearest domain that was trained on; EAR-style detection of new domains.

Daniels et al. 2023, Efficient Model Adaptation for Continual Learning at the Edge (EAR), https://arxiv.org/abs/2308.02084, of which no code is
public; score and bundles as in HDFF (Wilson et al. 2023, Hyperdimensional Feature Fusion for Out-of-Distribution Detection):

    h(x) = sum_l key_l * (P^T f_l(x)),    B_k = sum_{x in task k} h(x),    s(x) = -max_k cos(h(x), B_k)
    value = mean s (incoming) - mean s (held out)

f_l(x) is the mean hidden state of layer l over a prompt, less its mean and divided by its spread over all items, by dimension. Half of the
reference, chosen by content, is bundled; the other half is held out, and a permutation test between it and what came in says how likely the value is by
chance. Centre and spread are of all items alike and bundles of items that are never relabelled, so that the test is exact. An item is new if
it lies farther than all but `rare` of those held out. It asks one question alone: what is nearer than before is no new domain, and `mmd` sees it.
Ours and not EAR's: all but the idea, since its paper's equations were not at hand. Not HDFF's: centring by dimension and dividing by the spread (its code takes
one mean of a whole layer off, and cosines of a language model's states then stay near 1); one projection for all layers, whose keys are
signs (it draws one for each, which is the same in distribution); means of tokens (it takes the largest over places); the test.
Shapes: N = reference, M = incoming, L = layers, H = hidden size, D = size of a hypervector, B = relabellings.
"""
