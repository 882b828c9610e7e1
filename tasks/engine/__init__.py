"""The training engine that all stages share, and inference: scoring, generation, embeddings."""
