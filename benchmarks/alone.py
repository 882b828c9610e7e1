"""Cost of reading the texts of a row one after the other: `python benchmarks/alone.py [--rounds 9]`.

A LLaMA of random weights, with the widths of SmolLM2-135M, six layers and 8,192 tokens, reads rows of texts of one length in fp32 on one thread: in
one pass over the row, and one text after the other, as families do whose texts cannot share a row (`tasks.engine.forward.reads_alone`). The two ways
take turns. Printed: the median, minimum and maximum of the ratios of CPU time, forward and backward.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tasks.core.sequences import Encoded  # noqa: E402
from tasks.engine.forward import token_losses, use_packed_attention  # noqa: E402
from tasks.engine.packing import Pack, collate  # noqa: E402

LENGTHS = (16, 64, 256, 1024)
ROW = 1024
"""Tokens of a row."""
VOCABULARY = 8192


def model() -> Any:
    """Return the LLaMA."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    heads = {"num_attention_heads": 9, "num_key_value_heads": 3}
    sizes = {"vocab_size": VOCABULARY, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 6}
    return LlamaForCausalLM(LlamaConfig(**sizes, **heads))


def cpu_s(reader: Any, row: dict[str, torch.Tensor]) -> float:
    """Return the CPU seconds of a step without its update."""
    start = time.process_time()
    token_losses(reader, row).sum().backward()  # type: ignore[no-untyped-call]
    reader.zero_grad()
    return time.process_time() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(1)
    together, alone = model(), model()
    use_packed_attention(together)
    alone.alone_by = "sdpa"
    for length in LENGTHS:
        texts = torch.randint(VOCABULARY, (ROW // length, length)).tolist()
        row = collate([Pack(tuple(Encoded("", ids, [1.0] * length) for ids in texts))])
        ratios = []
        for turn in range(options.rounds + 1):
            order = (together, alone) if turn % 2 else (alone, together)
            seconds = {id(reader): cpu_s(reader, row) for reader in order}
            ratios.append(seconds[id(alone)] / seconds[id(together)])
        ratios = sorted(ratios[1:])  # the first turn allocates memory
        print(
            f"texts of {length:>5} tokens: {statistics.median(ratios):.2f} times as long ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        )


if __name__ == "__main__":
    main()
