"""LISA: the embeddings, the final norm and the head always train, and with them a few decoder layers, redrawn periodically.

Pan et al. 2024, https://arxiv.org/abs/2403.17919, algorithm 1. For i = 0, 1, …: freeze all L decoder layers, draw γ of them
uniformly without replacement, so that each has probability p = γ / L, and make K ordinary steps with those. Despite the word importance in
the name nothing is scored: in LoRA runs the ends of a model change most, and LISA imitates that by probabilities, 1 at the ends and p between.

With an adapter, the layers are those of its weights. Trainable weights outside the decoder layers always train.
Our design, not the paper's: `state: drop` is the default. The authors' runs saved and loaded the model at each draw, which also
reset the optimizer's state of the embeddings, the final norm and the head, and of a layer drawn twice in a row. That is another
training: a model of four layers, after three periods of two AdamW steps at 5e-4, has weights that differ by up to 0.0031 from
those under `drop`, which had moved by up to 0.0028. LMFlow's callback, by the same authors, resets nothing, as `keep` does.
"""
