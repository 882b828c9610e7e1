"""ORPO: fine-tune on the better answer, and raise its odds above those of the worse one, without a reference model.

Hong et al. 2024, https://arxiv.org/abs/2403.07691, equations 6 and 7, with m = mean log p of an answer's tokens:
  L = L_SFT - lambda log sigmoid(log odds(y+) - log odds(y-)),  log odds(y) = m - log(1 - exp m)
L_SFT is the mean loss of the tokens of y+, the second term a mean over pairs. TRL's `ORPOTrainer` includes the tokens of the prompt in L_SFT;
here it is of the answer alone, as in the paper. The second term equals TRL's.
Shapes: N = trained tokens of the pack, S = its sequences.
"""
