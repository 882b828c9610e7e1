"""A GGUF file is read as the model that it holds, or refused."""

import gguf
import numpy as np
import pytest
import torch

from tasks.core.weights import gguf_models

FACTORS = np.ones(4, dtype=np.float32)


@pytest.mark.parametrize(
    ("add", "named"),
    [
        (lambda writer: writer.add_tensor("rope_freqs.weight", FACTORS), r"rope_freqs\.weight"),
        (lambda writer: writer.add_tensor("rope_factors_long.weight", FACTORS), r"rope_factors_long\.weight"),
        (lambda writer: writer.add_rope_scaling_type(gguf.RopeScalingType.YARN), r"rope\.scaling\.type yarn"),
        (lambda writer: writer.add_rope_scaling_factor(4.0), r"rope\.scaling\.type linear"),
        (lambda writer: writer.add_float32("llama.rope.scale_linear", 4.0), r"rope\.scaling\.type linear"),
    ],
)
def test_a_file_that_scales_positions_is_refused_with_what_to_fetch(tmp_path, add, named):
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "llama")
    for size in ("block_count", "embedding_length", "feed_forward_length", "head_count", "vocab_size"):
        getattr(writer, f"add_{size}")(1)
    add(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(
        ValueError, match=rf"a\.gguf scales the positions of its tokens \({named}\).*Fetch its safetens"
    ):
        gguf_models.read(tmp_path / "a.gguf", torch.float32)
