"""Measure how fast this machine computes: `python -m tasks.machine_speed PRECISION THREADS` prints one JSON object.

This is a process of its own, since flows do not import torch. It imports the same libraries as stages, and runs the work of stages on two small
LLaMAs: matrix products at the chosen precision, and all operations between them. A narrow model spends its time between the products, and a wide
one in the products, so both are measured. `flows.execution.cost.machine_speed` interpolates for other widths.

All seconds are CPU time of the main thread, which takes part in every product. On an idle machine they equal wall-clock time, and on a busy
machine they are close to the time on an idle one. Threads that wait for each other sleep (`QUIET`), so that waiting is not counted.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from tasks.core import imports
from tasks.core.compute import Compute
from tasks.core.speed import Pace, Speed
from tasks.io.system import process

TOKENS = 512
"""Number of tokens in a row."""
ROWS = {96: 4, 576: 1}
"""Width → number of rows that are read together. In narrow models, a pack of short sequences is as fast as a long sequence."""
BATCH = 8
"""Number of answers that are generated together."""
REPEATS = 5
QUIET = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
"""Environment variables that OpenMP reads when torch is loaded."""
BANDWIDTH_NUMBERS = 2**25
"""Number of elements of a matrix that is too large for any processor's cache."""
NARROW = {"hidden_size": 96, "intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": 4}
WIDE = {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 2, "num_attention_heads": 9}
VOCABULARY = {96: 259, 576: 3300}
"""Width → size of the vocabulary, whose share of the parameters is typical of models of this width."""


def main(precision: str, threads: int) -> None:
    """Measure, and print the speed."""
    compute = Compute.model_validate({"precision": precision, "threads": threads})
    process.quiet()
    process.set_threads(compute)
    os.environ.update(QUIET)
    _import_libraries()
    start_s = time.thread_time()
    from tasks.engine import device

    device.use(compute)
    narrow, wide = _llama(NARROW), _llama(WIDE)
    speed = Speed(
        start_s=start_s,
        narrow=_pace(narrow, compute),
        wide=_pace(wide, compute),
        layer_s=_layer_seconds(narrow, compute),
        bytes_per_s=_bandwidth(),
    )
    sys.stdout.write(json.dumps(asdict(speed)) + "\n")


def _import_libraries() -> None:
    import importlib

    from tasks.forkserver.server import MODULES

    with imports.lasting():
        for module in MODULES:
            importlib.import_module(module)


def _llama(shape: dict[str, int]) -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    heads = shape["num_attention_heads"]
    torch.manual_seed(0)
    config = LlamaConfig(
        **shape,
        num_key_value_heads=heads // 2 if heads % 2 == 0 else heads // 3,
        vocab_size=VOCABULARY[shape["hidden_size"]],
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config)


def _pace(model: Any, compute: Compute) -> Pace:
    import torch

    from tasks.engine import device

    ids = torch.arange(TOKENS).remainder(model.config.vocab_size).expand(ROWS[model.config.hidden_size], -1)

    def read() -> None:
        with torch.no_grad(), device.autocast(compute):
            model(input_ids=ids)

    def train() -> None:
        with device.autocast(compute):
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        model.zero_grad(set_to_none=True)

    operations = model.num_parameters() * ids.numel()
    return Pace(model.config.hidden_size, 2 * operations / _seconds(read), 6 * operations / _seconds(train))


def _layer_seconds(model: Any, compute: Compute) -> float:
    import torch

    from tasks.engine import device

    ids = torch.zeros(BATCH, 1, dtype=torch.long)

    def write() -> None:
        with torch.no_grad(), device.autocast(compute):
            model(input_ids=ids, use_cache=True)

    return _seconds(write) / int(model.config.num_hidden_layers)


def _bandwidth() -> float:
    import torch

    matrix, vector = torch.ones(2**12, BANDWIDTH_NUMBERS // 2**12), torch.ones(BANDWIDTH_NUMBERS // 2**12)
    return 4 * BANDWIDTH_NUMBERS / _seconds(lambda: matrix @ vector)


def _seconds(work: Callable[[], object]) -> float:
    """Return the shortest of some timings, after a warm-up, since any other activity of the machine only makes timings longer."""
    work()
    timings = []
    for _ in range(REPEATS):
        start = time.thread_time()
        work()
        timings.append(time.thread_time() - start)
    return min(timings)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
