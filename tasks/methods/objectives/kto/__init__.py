"""KTO: make desirable answers more likely and undesirable ones less likely, from judgements of single answers.

Ethayarajh et al. 2024, https://arxiv.org/abs/2402.01306, equation 7, with r = log p(y|x)/p_ref(y|x):
  L = w+ (1 - sigmoid(beta (r - z)))  of a desirable answer,  w- (1 - sigmoid(beta (z - r)))  of an undesirable one
  z = max(0, mean of r over prompts with answers that belong to others), without gradient
averaged over the answers of a step. z is the mean over a pack; TRL's is the mean over a batch. In a preference pair the better answer counts
as desirable, the worse one as undesirable. p_ref is the model that the training starts from.
A prompt's foreign answer comes from the example before it. For single judgements this is the answer of the previous sequence, as in TRL's
`KTOTrainer`; on one batch of such data our loss equals TRL's. In a pair, the better answer's prompt gets the worse answer of the previous pair, and
the worse answer's prompt gets the better answer of the previous pair. In TRL the latter gets its own better answer, which belongs to the same
prompt.
Shapes: N = trained tokens of the pack, S = its sequences.
"""
