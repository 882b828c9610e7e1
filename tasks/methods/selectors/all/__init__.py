"""Everything that the adapter left trainable: full fine-tuning without an adapter, the whole adapter with one."""
