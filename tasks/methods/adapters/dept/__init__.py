"""DePT, decomposed prompt tuning: a shorter trained prompt, and with what that saves low-rank offsets on the embeddings.

Shi & Lipani, ICLR 2024, https://arxiv.org/abs/2309.05173. The decoder reads, in place of the embeddings E of a sequence,

    X = [P; E + c A B],  c = alpha / sqrt(rank),  B = 0 at the start

Row t of A B belongs to position t of the sequence, whatever token stands there. P, A and B train, at two learning rates; the
model is frozen. `rank: 0` is plain prompt tuning (Lester et al. 2021, https://arxiv.org/abs/2104.08691), step by step. The two
are alike in size where l H = m H + (s + H) R for l prompt tokens without offsets and m with them, s = `max_tokens`; with H = 768
and s = 256, l = 100 is (m, R) = (20, 60), (40, 45), (60, 30) or (80, 15). The default is (60, 30), the pair of 11 of the 17
trainings that the authors published. With another H or s it is not of equal size: R = (l - m) H / (s + H) is. A prompt costs its
length in every sequence, in training and after; the offsets cost next to nothing.

Shapes: B = rows, T = tokens of a row, M = prompt tokens, L = longest sequence, R = rank, H = hidden size.

Our design, not the paper's:
- Its offsets stand on the encoder's input (T5), which has the whole source before anything is written. A decoder has one
  sequence: a token's offset is that of its own position, in the prompt as in the response, trained as written.
- P starts as the embeddings of tokens drawn from the vocabulary, as in Lester et al.; the authors' code takes a fixed
  English sentence, which would need the tokenizer.
- The scale c and alpha = 8 are of the authors' code alone.
- Rows are cut to the length of the sequence; the authors pad every input to L.
- Pads are no positions, so that P stands directly before the first token. The authors' code counts the pads to the left of a
  sequence as positions between the two; `align: official` has their rows of A, and not that.
"""
