"""The tiny models on which `coverage.py` tries methods, the texts that they read, and the figures that are counted."""

import atexit
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
STEPS = 8
TOKENS = 64
"""Of a sequence."""
SEQUENCES = 4
"""Of a step."""
RATE = 3e-3
RANK = 4
LEARNT = 80
"""Steps in which a model learns the licence before."""
WEIGHTS = ("*.safetensors", "*.bin", "*.gguf")
"""Files with weights."""


@cache
def scratch() -> Path:
    """Return a folder for models, which is removed when the process ends."""
    kept = tempfile.TemporaryDirectory()
    atexit.register(kept.cleanup)
    return Path(kept.name)


@cache
def texts() -> tuple[Any, Any]:
    """Return sequences of the licence and of functions, (B, T) each."""
    import torch

    licence = (ROOT / "LICENSE").read_bytes()
    code = b"".join(path.read_bytes() for path in sorted((ROOT / "params/tiny-data").glob("*.py")))
    rows = 8 * SEQUENCES * TOKENS
    return tuple(torch.tensor(list(text[200 : 200 + rows])).view(-1, TOKENS) for text in (licence, code))  # type: ignore[return-value]


@cache
def base(kind: str) -> Path:
    """Return the folder of a tiny model of random weights that learnt the licence for some steps, with its tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from tasks.stages.fetch.random_init import byte_tokenizer
    from tests import tiny

    sizes = {
        "vocab_size": 259,
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }

    def llama() -> Any:
        torch.manual_seed(1)
        return LlamaForCausalLM(LlamaConfig(**sizes, num_key_value_heads=2, max_position_embeddings=256))

    model = {"llama": llama, "qwen2": tiny.qwen2, "gpt2": tiny.gpt2}[kind]().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    for step in range(LEARNT):
        rows = batch(texts()[0], step)
        optimizer.zero_grad()
        model(input_ids=rows, labels=rows).loss.backward()
        optimizer.step()
    folder = scratch() / kind
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def batch(rows: Any, step: int) -> Any:
    """Return the rows of a step, (B, T)."""
    first = step * SEQUENCES % len(rows)
    return rows[first : first + SEQUENCES]


def said(error: Exception) -> str:
    """Return an error in one line, without paths of this machine."""
    text = " ".join(str(error).split()).replace(str(scratch()), "…") or "no message"
    return f"{type(error).__name__}: {text[:240]}{'…' if len(text) > 240 else ''}"


def bytes_of(folder: Path) -> int:
    """Return the bytes of the weights in a folder."""
    return sum(file.stat().st_size for pattern in WEIGHTS for file in folder.rglob(pattern))
