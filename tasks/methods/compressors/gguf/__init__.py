"""GGUF: one file with weights, tokenizer and chat template, as llama.cpp, Ollama and LM Studio run it.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Its writer, its names of tensors and its number types
are those of the package `gguf`; what a LLaMA or a Qwen of transformers looks like in these words is stated here.

- llama.cpp turns neighbouring numbers of a head (0 with 1) where transformers turns halves (0 with D/2), so the rows of LLaMA's
  q and k are put in that order. Qwen2 and Qwen3 have the same turn in both.
- A LLaMA may have biases, which transformers' reader takes with `attention_bias=True` alone. A Qwen2 whose heads are not as wide as its hidden size
  says is not written: llama.cpp reads no other.
- A tied head is not stored, vectors are stored as float32, and rows that no block divides as float16.
- Below 8 bits, embedding and head are stored in 8, as llama.cpp too keeps them finer than the rest.

Only byte-level BPE tokenizers are written; `PRE` and `_pre_tokenizer` hold the ways of cutting text that GGUF has a name for.
One without merges is read by transformers alone: llama.cpp asks for merges.
Shapes: A = heads, D = width of a head, I = features in.
"""
