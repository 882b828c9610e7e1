"""KTO: make desirable answers likelier and undesirable ones less likely, from judgements of single answers.

Ethayarajh et al. 2024, https://arxiv.org/abs/2402.01306, equation 7, with r = log p(y|x)/p_ref(y|x):
  L = w+ (1 - sigmoid(beta (r - z)))  of a desirable answer,  w- (1 - sigmoid(beta (z - r)))  of an undesirable one
  z = max(0, mean of r over prompts with answers that belong to others), without gradient
averaged over the answers of a step. z is the mean over a pack, as TRL's is over a batch. Of a preference pair the better answer counts
as desirable, the other one as not. p_ref is the model that the training starts from.
A prompt's foreign answer is that of the example before it. Of single judgements it is the answer of the sequence before, as in TRL's `KTOTrainer`,
whose loss ours equals on one batch of them. Of a pair the better answer's prompt has the worse answer of the pair before, and the worse answer's
prompt has the better one; in TRL the latter has its own better answer, which is none of another prompt.
Shapes: N = trained tokens of the pack, S = its sequences.
"""
