"""Everything that the adapter left trainable: the whole adapter, or all weights (full fine-tuning) without an adapter."""
