"""LISA: the embeddings, the final norm and the head always train, and with them a few decoder layers that are redrawn.

Pan et al. 2024, https://arxiv.org/abs/2403.17919, algorithm 1. For i = 0, 1, …: freeze all L decoder layers, draw γ of them
uniformly without replacement, so that each has probability p = γ / L, and make K ordinary steps with those. Despite the name
nothing is scored: in LoRA runs the ends of a model move most, and LISA copies that as probabilities, 1 at the ends and p between.

Over an adapter the layers are those of its weights. What trains outside the decoder layers, whatever it is, always does.
Our design, not the paper's: `state: drop` is the default. The authors' runs restarted at each draw, to the same effect.
"""
