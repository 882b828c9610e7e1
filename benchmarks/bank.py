"""A bank of many small adapters over one base: bytes on disk, time of a switch, answers of mixed requests: `python benchmarks/bank.py`.

The base is a LLaMA of random weights of the given shape (by default SmolLM2-135M's, with a byte vocabulary), and the adapters have random
numbers: neither bytes nor times depend on what adapters have learned. Bytes are those of the files that `tune` writes; for binadapter they
include the LoRA beside it. `compressed` is the size after compressor `levels` (it rounds LoRAs to one bit, and is lossless for binadapter).
A switch goes from one adapter in memory to another. It is compared with the first use of an adapter, which attaches it, and with reading base
and adapter from disk. Requests are prompts of one length, answered greedily in batches: all by one adapter, or in turn by several, each with
batches of its own.
"""

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
USED = 16
"""Adapters of a bank that are attached."""


def main() -> None:
    """Make the banks, measure them, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adapters", type=int, default=100)
    parser.add_argument("--methods", nargs="+", default=["lora", "binadapter"])
    parser.add_argument("--rank", type=int, default=4)
    parser.add_argument("--hidden", type=int, default=576)
    parser.add_argument("--mlp", type=int, default=1536)
    parser.add_argument("--layers", type=int, default=30)
    parser.add_argument("--heads", type=int, default=9)
    parser.add_argument("--kv-heads", type=int, default=3)
    parser.add_argument("--requests", type=int, default=32)
    parser.add_argument("--mixed", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    import torch

    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        base = make_base(Path(folder) / "base", options)
        print(
            f"base: {size(base):,} bytes of weights; {options.adapters} merged models would be {options.adapters * size(base):,}"
        )
        for method in options.methods:
            report(method, make_bank(Path(folder) / method, base, method, options), base, options)


def make_base(folder: Path, options: argparse.Namespace) -> Path:
    """Write a LLaMA of random weights, and return its folder."""
    from tasks.stages.fetch import random_init
    from tasks.stages.fetch.config import FromConfig

    source = FromConfig.model_validate(
        {
            "from": "config",
            "hidden": options.hidden,
            "mlp": options.mlp,
            "layers": options.layers,
            "heads": options.heads,
            "kv_heads": options.kv_heads,
        }
    )
    tokenizer = random_init.byte_tokenizer()
    model = random_init.random_model(source, len(tokenizer), tokenizer.eos_token_id, tokenizer.pad_token_id)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_bank(folder: Path, base: Path, method: str, options: argparse.Namespace) -> Path:
    """Write a bank of adapters of random numbers: one, and others with its numbers in other orders."""
    import numpy as np
    import torch
    from safetensors.torch import load_file, save_file

    from tasks.io.weights import banks, checkpoints

    parent, members = checkpoints.weights_digest(base), {}
    for number in range(options.adapters):
        task = f"task-{number:03d}"
        place = folder / task
        if number == 0:
            first = make_adapter(place, base, method, options)
            np.save(first / banks.CENTROID, np.zeros((2, 4, options.hidden), np.float32))
        else:
            draw = torch.Generator().manual_seed(number)
            shutil.copytree(first, place)
            for file in checkpoints.weights(place):
                tensors = {
                    name: tensor.flatten()[torch.randperm(tensor.numel(), generator=draw)].reshape(tensor.shape)
                    for name, tensor in load_file(file).items()
                }
                save_file(tensors, file, {"format": "pt"})
        checkpoints.write_card(place, method={"adapter": method}, parent=parent)
        members[task] = banks.Member(task, checkpoints.weights_digest(place), 1)
    banks.write_card(folder, members, parent=parent)
    return folder


def make_adapter(place: Path, base: Path, method: str, options: argparse.Namespace) -> Path:
    """Write an adapter of random numbers to a new folder, as stage `tune` writes one."""
    import torch

    from tasks import methods
    from tasks.core.training import Start
    from tasks.io.weights import checkpoints, peft_lora

    model, _ = checkpoints.load(base)
    spec, functions = methods.spec("adapters", method), methods.load("adapters", method)
    config = spec.config.model_validate({"rank": options.rank, "targets": "all-linear"})
    attached: Any = functions.attach(model, config, Start())
    for parameter in attached.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.02)
    place.mkdir(parents=True)
    if hasattr(attached, "peft_config"):
        attached.save_pretrained(place, safe_serialization=True, save_embedding_layers=False)
    else:
        tensors = {name: tensor for name, tensor in attached.named_parameters() if tensor.requires_grad}
        checkpoints.write_adapter(place, tensors | spec.held_in(attached), method, config.model_dump(mode="json"))
        peft_lora.write(place, functions.finish(attached))
    return place


def compressed_size(place: Path, base: Path) -> int:
    """Return the bytes of an adapter after compressor `levels`."""
    from safetensors.torch import save

    from tasks import methods
    from tasks.io.weights import compressed

    levels = methods.load("compressors", "levels")
    (candidate,) = levels.candidates(methods.spec("compressors", "levels").config())
    return len(save(levels.encode(levels.quantise(compressed.read_delta(place, base), candidate))))


def report(method: str, folder: Path, base: Path, options: argparse.Namespace) -> None:
    """Print bytes and times of a bank."""
    from tasks.engine.inference.bank import Bank
    from tasks.io.weights import checkpoints

    places = sorted(path for path in folder.iterdir() if path.is_dir())
    each = statistics.mean(map(size, places))
    packed = compressed_size(places[0], base)
    print(
        f"\n{method}, rank {options.rank}: {len(places) * each:,.0f} bytes, {each:,.0f} an adapter, {packed:,} compressed"
    )
    opened, bank = timed(lambda: Bank(folder, base))
    firsts = [timed(lambda name=name: bank.model(name))[0] for name in bank.names[:USED]]
    switches = [timed(lambda name=name: bank.model(name))[0] for _ in range(20) for name in bank.names[:USED]]
    anew = [timed(lambda name=name: checkpoints.load(folder / name, base))[0] for name in bank.names[:3]]
    print(f"  bank opened (base read, {len(places)} members checked by hash): {opened:.2f} s")
    print(
        f"  first use of an adapter: {1e3 * statistics.median(firsts):.1f} ms; a switch: {1e6 * statistics.median(switches):.2f} µs"
    )
    print(f"  base and adapter read anew and merged: {statistics.median(anew):.2f} s")
    for mixed in options.mixed:
        print(f"  {options.requests} requests to {mixed} adapters: {rate(bank, mixed, options):.0f} tokens/s")


def rate(bank: Any, mixed: int, options: argparse.Namespace) -> float:
    """Return the tokens of answers in a second."""
    from tasks.core.records import Message
    from tasks.engine.inference import generation

    length = 32
    prompts = [[Message("user", f"Question {number:04d}?")] for number in range(options.requests)]

    def answer() -> None:
        for place, name in enumerate(bank.names[:mixed]):
            generation.respond(
                bank.model(name),
                prompts[place::mixed],
                bank.tokenizer,
                max_new_tokens=length,
                batch_size=options.requests,
            )

    return options.requests * length / timed(answer)[0]


def size(folder: Path) -> int:
    """Return the bytes of the weights in a folder."""
    from tasks.io.weights import checkpoints

    return sum(file.stat().st_size for file in checkpoints.weights(folder))


def timed(action: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds that an action took, and its result."""
    start = time.perf_counter()
    value = action()
    return time.perf_counter() - start, value


if __name__ == "__main__":
    main()
