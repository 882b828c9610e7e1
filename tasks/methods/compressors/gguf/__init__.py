"""GGUF: one file with weights, tokenizer and chat template, for llama.cpp, Ollama and LM Studio.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. The writer, names of tensors and number types
are those of the package `gguf`; this module maps the LLaMA and Qwen models of transformers to them.

- The rotary embedding of llama.cpp pairs neighbouring numbers of a head (0 with 1), that of transformers pairs halves (0 with D/2). So the
  rows of LLaMA's q and k are reordered. For Qwen2 and Qwen3 both programs pair alike.
- A LLaMA may have biases, which transformers' reader accepts only with `attention_bias=True`. A Qwen2 whose heads do not have the width that its
  hidden size implies is not written, since llama.cpp cannot read it.
- A tied head is not stored, vectors are stored as float32, and rows that no block divides as float16.
- Below 8 bits, embedding and head are stored in 8 bits; llama.cpp, too, stores them more precisely than the rest.

Only byte-level BPE tokenizers are written; `PRE` and `_pre_tokenizer` hold the pre-tokenizers that have a name in GGUF.
Only transformers can read a tokenizer without merges: llama.cpp requires merges.
Shapes: A = heads, D = width of a head, I = features in.
"""
