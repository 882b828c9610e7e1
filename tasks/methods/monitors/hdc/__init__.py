"""HDC: the distance of incoming items from the bundle of the nearest trained domain, for EAR-style detection of new domains.

Daniels et al. 2023, Efficient Model Adaptation for Continual Learning at the Edge (EAR), https://arxiv.org/abs/2308.02084, of which no code is
public; score and bundles as in HDFF (Wilson et al. 2023, Hyperdimensional Feature Fusion for Out-of-Distribution Detection):

    h(x) = sum_l key_l * (P^T f_l(x)),    B_k = sum_{x in task k} h(x),    s(x) = -max_k cos(h(x), B_k)
    value = mean s (incoming) - mean s (held out)

f_l(x) is the mean hidden state of layer l over a prompt, minus its mean over all items and divided by its spread, by dimension. One half of the
reference, chosen by content, is bundled; the other half is held out. A permutation test between the held-out half and the incoming items gives the
p-value. The test is exact, because centre and spread are computed over all items together, and bundled items are never relabelled. An item is new
if it lies farther away than all but the share `rare` of held-out items. The test is one-sided: data that lie nearer than before are not a new
domain, and `mmd` detects them.
Only the idea is EAR's; the rest is ours, since its paper's equations were not accessible. Different from HDFF: centring and scaling by dimension
(its code subtracts one mean of a whole layer, after which cosines of a language model's states stay near 1); one projection for all layers, with
signs as keys (it draws one projection for each layer, which is the same in distribution); means over tokens (it takes the maximum over places);
and the test.
Shapes: N = reference, M = incoming, L = layers, H = hidden size, D = size of a hypervector, B = relabellings.
"""
