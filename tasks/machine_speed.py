"""Measure how fast this machine computes: `python -m tasks.machine_speed PRECISION THREADS` prints one JSON object.

A process of its own, as flows import no torch. It imports what stages import, and does with two small LLaMAs what stages do with large
ones: products of matrices at the chosen precision, with all that stands between them. Narrow models spend their time between the
products and wide ones in them, so both are measured, and `flows.execution.cost.machine_speed` takes what lies between for other widths.

All seconds are CPU time of the main thread, which takes part in every product: on an idle machine they are those of a clock, and on
a busy one about those that an idle one would take. Threads that wait for each other sleep (`QUIET`), so that no wait is counted.
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
"""Tokens of a row that is read and trained on."""
ROWS = {96: 4, 576: 1}
"""Width → rows that are read at a time: with few numbers in each product, a pack of short sequences is as quick as a long one."""
BATCH = 8
"""Answers that are written side by side."""
REPEATS = 5
QUIET = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
"""Environment that OpenMP reads when torch is loaded."""
BANDWIDTH_NUMBERS = 2**25
"""Numbers of a matrix that no processor's cache holds."""
NARROW = {"hidden_size": 96, "intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": 4}
WIDE = {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 2, "num_attention_heads": 9}
VOCABULARY = {96: 259, 576: 3300}
"""Width → tokens in the vocabulary, whose share of the parameters is that of models of this width."""


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
    """Return the least of some timings, after one that is not counted: whatever else happens makes them longer."""
    work()
    timings = []
    for _ in range(REPEATS):
        start = time.thread_time()
        work()
        timings.append(time.thread_time() - start)
    return min(timings)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
