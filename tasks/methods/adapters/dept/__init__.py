"""DePT, decomposed prompt tuning: a shorter trained prompt, and low-rank offsets of the embeddings with the parameters that this saves.

Shi & Lipani, ICLR 2024, https://arxiv.org/abs/2309.05173. The decoder reads, in place of the embeddings E of a sequence,

    X = [P; E + c A B],  c = alpha / sqrt(rank),  B = 0 at the start

Row t of A B belongs to position t of the sequence, whichever token is there. P, A and B train, at two learning rates; the
model is frozen. `rank: 0` is exactly plain prompt tuning (Lester et al. 2021, https://arxiv.org/abs/2104.08691). A prompt of l tokens without
offsets and one of m tokens with them have equally many parameters if l H = m H + (s + H) R, with s = `max_tokens`. For H = 768
and s = 256, l = 100 corresponds to (m, R) = (20, 60), (40, 45), (60, 30) or (80, 15). The default is (60, 30), the pair in 11 of the 17
trainings that the authors published. For another H or s, take R = (l - m) H / (s + H) for equal size. A prompt lengthens
every sequence, in training and in use; the offsets cost almost nothing.

Shapes: B = rows, T = tokens of a row, M = prompt tokens, L = longest sequence, R = rank, H = hidden size.

Our design, not the paper's:
- The paper's offsets are added to the encoder's input (T5), where the whole source is known before anything is generated. A decoder has one
  sequence: a token's offset is that of its own position, in the prompt and in the response, in training and in generation.
- P starts as the embeddings of tokens drawn from the vocabulary, as in Lester et al.; the authors' code takes a fixed
  English sentence, which would need the tokenizer.
- The scale c and alpha = 8 are in the authors' code only, not in the paper.
- Only the rows of the sequence's length are used; the authors pad every input to L.
- Padding does not count as positions, so P is directly before the first token. The authors' code counts left padding as
  positions between P and the sequence. `align: official` uses their rows of A, but does not count padding either.
"""
