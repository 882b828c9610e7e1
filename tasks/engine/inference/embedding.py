"""Text embeddings: the mean of a model's last hidden states over a text's tokens.

Texts share rows without padding, each attends only to itself, and means are taken in fp32, whatever the model's precision.
Shapes: T = tokens of a row, N = texts, L = layers, H = hidden size.
"""

import json
from collections.abc import Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tasks.core.weights import complete
from tasks.engine import context
from tasks.engine.forward import reads_alone, use_packed_attention
from tasks.engine.inference.batches import ROWS, Apply, Loaded, Track, here
from tasks.engine.inference.scoring import PACK_TOKENS
from tasks.engine.packing import groups
from tasks.io.weights import checkpoints

DEPTHS = (0.25, 0.5, 0.75, 1.0)
"""The layers that `by_layer` reads, as fractions of the model's depth; the last gives the input of the head."""

FROM_FIRST = ("falcon_mamba", "mamba", "mamba2", "rwkv")
"""Families whose list of hidden states in transformers begins with the output of the first layer. That of all others begins with its input."""

ENCODERS = ("albert", "bert", "distilbert", "electra", "eurobert", "modernbert", "nomic_bert")
"""Families (`model_type`) of encoders that read texts of one row as if each were alone. Others compute positions or masks differently
(RoBERTa, MPNet, DeBERTa), and are left to sentence-transformers."""


def pooled(
    model: Any,
    texts: Sequence[Sequence[int]],
    track: Track = iter,
    row_tokens: int = PACK_TOKENS,
    apply: Apply | None = None,
) -> NDArray[np.float32]:
    """Return the mean last hidden state of each text's tokens, (N, H), in the order of the texts; zeros for one without tokens.

    A text that is longer than the model's context is cut off at the context's end. `model` is a causal language model, whose last hidden
    states are those before its head, or an encoder. `apply` may distribute the rows over other processes with the same model.
    """
    return by_layer(model, texts, track, row_tokens, depths=(1.0,), apply=apply)[:, 0]


def by_layer(
    model: Any,
    texts: Sequence[Sequence[int]],
    track: Track = iter,
    row_tokens: int = PACK_TOKENS,
    depths: Sequence[float] = DEPTHS,
    apply: Apply | None = None,
) -> NDArray[np.float32]:
    """Return the mean hidden states of each text's tokens in the layers at these depths, (N, L, H). Everything else is as in `pooled`."""
    body = _body(model)
    config, most = body.config, context.context(body)
    texts = [text[:most] for text in texts]
    layers = [round(depth * config.num_hidden_layers) for depth in depths]
    means_NLH = np.zeros((len(texts), len(layers), config.hidden_size), dtype=np.float32)
    numbers = [number for number, text in enumerate(texts) if text]
    rows = list(groups(numbers, row_tokens, lambda number: len(texts[number])))
    read = (apply or here(model))(
        partial(of_row, layers=layers), ([texts[number] for number in row] for row in rows), len(rows) // ROWS
    )
    for row, means in zip(track(rows), read, strict=True):
        means_NLH[row] = means
    return means_NLH


@torch.no_grad()
def of_row(loaded: Loaded, texts: Sequence[Sequence[int]], layers: Sequence[int]) -> NDArray[np.float32]:
    """Return the mean hidden states of each text of a row in these layers, (N, L, H)."""
    use_packed_attention(loaded.model)
    parts = [[text] for text in texts] if reads_alone(loaded.model) else [texts]
    means = [_means(_body(loaded.model), part, layers) for part in parts]
    means_NLH: NDArray[np.float32] = torch.cat(means).cpu().numpy()
    return means_NLH


def _body(model: Any) -> Any:
    """Return the model without its head."""
    return model.get_decoder() if model.get_output_embeddings() is not None else model


def _means(body: Any, texts: Sequence[Sequence[int]], layers: Sequence[int]) -> Tensor:
    lengths = [len(text) for text in texts]
    row = {
        "input_ids": [token for text in texts for token in text],
        "position_ids": [place for length in lengths for place in range(length)],
    }
    inputs = {name: torch.tensor([values], device=body.device) for name, values in row.items()}
    if len(texts) > 1:
        inputs["boundaries"] = torch.tensor([0, *accumulate(lengths)])
    cache = {"use_cache": False} if getattr(body.config, "use_cache", False) else {}
    last = body.config.num_hidden_layers
    hidden = body(**inputs, **cache, output_hidden_states=layers != [last])
    states = hidden.hidden_states or ()
    if body.config.model_type in FROM_FIRST:
        states = (body.get_input_embeddings()(inputs["input_ids"]), *states)
    of_layer = {layer: states[layer] for layer in layers if layer != last} | {last: hidden.last_hidden_state}
    states_TLH = torch.stack([of_layer[layer][0].float() for layer in layers], dim=1)
    return torch.stack([part_TLH.mean(dim=0) for part_TLH in torch.split(states_TLH, lengths)])


def is_encoder(folder: Path) -> bool:
    """Return True if the sentence-transformers model in `folder` is one of `ENCODERS` with mean pooling and no further trained module."""
    modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    kinds = [module["type"].rsplit(".", 1)[1] for module in modules]
    if kinds[:2] != ["Transformer", "Pooling"] or kinds[2:] not in ([], ["Normalize"]):
        return False
    body = json.loads((folder / modules[0]["path"] / "config.json").read_text(encoding="utf-8"))
    if body.get("model_type") not in ENCODERS:
        return False
    pooling = json.loads((folder / modules[1]["path"] / "config.json").read_text(encoding="utf-8"))
    return [name for name, on in pooling.items() if name.startswith("pooling_mode") and on is True] == [
        "pooling_mode_mean_tokens"
    ] or pooling.get("pooling_mode") == "mean"


def load_encoder(folder: Path, _parent: None = None, *, dtype: str, device: str) -> tuple[Any, Any]:
    """Load the sentence-transformers model in a folder, and its tokenizer. Raises ValueError if it is no encoder (`is_encoder`)."""
    if not is_encoder(folder):
        raise ValueError(
            f"{folder} is not a transformer of families {', '.join(ENCODERS)} with mean pooling alone. Use `embedders.embed`."
        )
    from transformers import AutoModel

    # Vectors are means of the tokens' states: many files lack the pooler, which reads the first one.
    model = complete.load(AutoModel, folder, "pooler.", dtype=getattr(torch, dtype), use_safetensors=True)
    return model.to(device).eval(), checkpoints.load_tokenizer(folder)


def encode(
    folder: Path, encoder: Loaded, texts: Sequence[str], track: Track = iter, apply: Apply | None = None
) -> NDArray[np.float32]:
    """Return one vector for each text by the encoder of a folder, (N, H), not of unit length; texts longer than its context are cut."""
    config = json.loads((folder / "sentence_bert_config.json").read_text(encoding="utf-8"))
    longest = config.get("max_seq_length") or encoder.model.config.max_position_embeddings
    ids = encoder.tokenizer(list(texts), truncation=True, max_length=longest)["input_ids"]
    return pooled(encoder.model, ids, track, apply=apply)
