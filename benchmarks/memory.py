"""Memory of a training step by method, against full fine-tuning and LoRA: `python benchmarks/memory.py [MODEL | --shape SHAPE]`.

MODEL is the folder of a model, such as `models/base` after `ratchet run fetch`; without one a model of random weights is made. Every side trains
the same packs of arbitrary tokens, one after the other, each in a process of its own. Printed for each:

  trains     numbers that train at some step
  weights    bytes of weights in memory between steps
  optimizer  bytes of gradients and of the optimizer's state at the end of a step
  saved      bytes that a pass keeps for going backward, each storage once
  peak       the most bytes of tensors at a time, weights included, by the allocator's own count: choice of weights, steps, all. It counts
             one thread, so there is none of zo2, whose blocks arrive by another; nor with `--without-record`
  count      what `tasks.engine.training.fit` says of that peak beforehand
  process    the most memory of the process in the steps after the first, above what it had before the model, by the kernel's count. The
             record of allocations that `peak` is read from is among it, and the heavier the more operations a step has
  seconds    of a step, the middle of those after the first

Bytes do not vary between runs, but those of the process do a little, and seconds much. Linux only, as the kernel must reset its record.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

SHAPES: dict[str, dict[str, Any]] = {
    "small": {"hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 8, "vocab_size": 4096},
    "smollm2-135m": {
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
    },
    "smollm2-1.7b": {
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 24,
        "num_attention_heads": 32,
    },
}
"""Name → what differs from a LLaMA of 4 heads and SmolLM2's 49,152 tokens."""
LORA = {"rank": 16, "alpha": 32, "targets": "all-linear"}
OF_ATTENTION = LORA | {"targets": ["q_proj", "k_proj", "v_proj", "o_proj"]}
"""LoRA beside MLPs that are frozen, as sparsifiers may want them."""
SPIEL = {"accumulate": 1}
"""The first change of entries comes in the second step."""
SECTIONS: dict[str, dict[str, Any]] = {
    "adept": {"interval": 0},  # a few steps hold no look at the units
    "lora": LORA,
    "loca": {"coefficient_steps": 1, "place_steps": 2, "place_share": 1.0},  # both turns within a few steps
    "mhr": {"heads": 8},  # which divide the widths of all shapes
    "oft": {"block_size": 16},
    "spiel": SPIEL,
}
"""Name → settings of a method, where its defaults do not suit the shapes or a few steps."""
CHECKPOINTED = {"activation_checkpointing": True}


def sides() -> dict[str, dict[str, Any]]:
    """Return the settings of each side by its name: every method that trains once, and what it is compared with. `methods` among them holds
    what differs from `SECTIONS`.
    """
    from tasks import methods

    alone: dict[str, dict[str, Any]] = {"full": {}, "full, checkpointed": CHECKPOINTED, "lora": {"adapter": "lora"}}
    alone["lora, checkpointed"] = {"adapter": "lora"} | CHECKPOINTED
    alone["lisa, checkpointed"] = {"selector": "lisa"} | CHECKPOINTED
    for name in methods.names("adapters"):
        alone.setdefault(name, {"adapter": name})
    for name in ("mosa", "mosl"):  # adapters that draw anew in each of two looks
        alone[f"{name}, consistency"] = {"adapter": name, "objective": "consistency"}
    for name in methods.names("selectors"):
        needs_lora = methods.spec("selectors", name).needs_linear
        alone[name] = {"selector": name, "adapter": "lora" if needs_lora else "none"}
    alone["spiel, ma"] = {"selector": "spiel", "adapter": "none", "methods": {"spiel": SPIEL | {"criterion": "ma"}}}
    alone |= {name: {"expander": name} for name in methods.names("expanders") if name != "none"}
    for name in methods.names("optimizers"):
        alone[name] = {"optimizer": name}
        if methods.spec("optimizers", name).gradient_free:
            alone[f"{name}, lora"] = {"optimizer": name, "adapter": "lora"}
    alone["lora of attention"] = {"adapter": "lora", "methods": {"lora": OF_ATTENTION}}
    for name in methods.names("sparsifiers"):
        alone[name] = alone["lora of attention"] | {"sparsifier": name}
    return {name: settings for name, settings in alone.items() if name not in ("none", "all", "adamw")}


@dataclass(frozen=True)
class Memory:
    """The cost of a training, in bytes except for `trains` and `seconds`."""

    side: str
    trains: int
    weights: int
    optimizer: int
    saved: int
    peak: int | None
    """None where other threads make tensors too."""
    count: int
    process: int
    seconds: float


@dataclass(frozen=True)
class Refused:
    """A side cannot train this model in the given number of steps."""

    side: str
    reason: str


def main() -> None:
    """Print a line of JSON for each side, then the table."""
    known = sides()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument(
        "--shape", choices=[*SHAPES], default="small", help="of random weights, where no MODEL is named"
    )
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32", help="of all weights")
    parser.add_argument("--sides", nargs="*", choices=[*known], default=[*known], metavar="SIDE", help="some of them")
    parser.add_argument("--steps", type=int, default=3, help="of each training, two at least (3)")
    parser.add_argument("--tokens", type=int, default=512, help="of a pack, one a step (512)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--without-record", action="store_true", help="of allocations: it takes gigabytes beside a large model"
    )
    options = parser.parse_args()
    rows: list[Memory | Refused] = []
    # What a training before has left behind would be counted.
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as processes:
        for row in processes.map(partial(measured_or_refused, options=options), options.sides):
            rows.append(row)
            print(json.dumps(vars(row)), flush=True)
    show(rows)


def show(rows: Sequence[Memory | Refused]) -> None:
    """Print a table of megabytes, and the memory of the process as a share of full fine-tuning's and of LoRA's."""
    names = ("weights", "optimizer", "saved", "peak", "count", "process")
    by_side = {row.side: row for row in rows if isinstance(row, Memory)}
    print(f"\n{'':<20} {'trains':>13} " + " ".join(f"{name:>9}" for name in names) + "  of full  of lora  seconds")
    for row in rows:
        if isinstance(row, Refused):
            print(f"{row.side:<20} refused: {row.reason}")
            continue
        sizes = [getattr(row, name) for name in names]
        megabytes = " ".join(f"{'' if size is None else f'{size / 1e6:,.1f}':>9}" for size in sizes)
        of = (by_side.get(name) for name in ("full", "lora"))
        shares = " ".join(f"{f'{row.process / other.process:.0%}' if other else '':>8}" for other in of)
        print(f"{row.side:<20} {row.trains:>13,} {megabytes} {shares} {row.seconds:>8.2f}")


def measured_or_refused(side: str, options: argparse.Namespace) -> Memory | Refused:
    """Return the cost of a side, or the reason why it cannot train, so that later sides are measured anyway."""
    try:
        return measured(side, options)
    except ValueError as error:
        return Refused(side, str(error))


def planned(side: str, options: argparse.Namespace) -> tuple[Any, Any]:
    """Return the plan of a side's training and its composition."""
    from tasks.core.training import FAMILIES, Training
    from tasks.engine.training import compose

    settings = {"adapter": "none"} | sides()[side]
    sections = SECTIONS | settings.pop("methods", {})
    plan = Training(
        **settings,
        max_tokens=options.steps * options.tokens,
        pack_tokens=options.tokens,
        save_every=0,
        validate_every=0,
        warmup=0.0,
    )
    names = {getattr(plan, family.removesuffix("s")) for family in FAMILIES}
    return plan, compose.read(plan, {name: sections.get(name, {}) for name in names})


def measured(side: str, options: argparse.Namespace) -> Memory:
    """Train a side for some steps and return its cost."""
    from torch.optim.optimizer import register_optimizer_step_post_hook

    from tasks.core.compute import Compute
    from tasks.core.weights import activations
    from tasks.engine import device
    from tasks.engine.packing import Pack, collate
    from tasks.engine.training import fit, train
    from tasks.engine.training.allocations import allocations, held_bytes, saved_bytes

    plan, parts = planned(side, options)
    compute = Compute(precision="fp32", threads=options.threads)
    device.use(compute)
    before = process_bytes("VmRSS")
    model = model_of(options)
    weights = sum(tensor.nbytes for tensor in {*model.parameters(), *model.buffers()})
    sequences = [fit.arbitrary(options.tokens, model.config.vocab_size) for _ in range(options.steps)]
    held: list[int] = []
    seconds: list[float] = []

    def on_step(metrics: Any) -> None:
        seconds.append(metrics.seconds)
        if metrics.step == 1:
            Path("/proc/self/clear_refs").write_text("5")

    noted = register_optimizer_step_post_hook(lambda optimizer, *_: held.append(held_bytes(optimizer)))
    record = nullcontext([0]) if options.without_record else allocations()
    with noted, tempfile.TemporaryDirectory(dir=Path.cwd()) as work, record as running:
        result = train.train(
            model.train(), train.TrainData(sequences), parts, plan, compute, Path(work), on_step=on_step
        )
    process, trains = process_bytes("VmHWM") - before, result.trainable
    saved = 0
    if not parts.optimizer.spec.gradient_free:
        row = collate([Pack((sequences[0],))])
        parts.sparsifier.method.sparsify(result.model, parts.sparsifier.config, plan.seed)
        with activations.applied(result.model, wanted=plan.activation_checkpointing):
            saved = saved_bytes(result.model, row)
    in_place = in_memory(result.model) if parts.optimizer.spec.streams else weights
    del model, result
    count = fit.of_model(model_of(options), parts, plan)  # last, since memory that it gives back stays the process's
    return Memory(
        side,
        trains,
        weights=in_place,
        optimizer=max(held),
        saved=saved,
        peak=None if parts.optimizer.spec.streams or options.without_record else weights + max(running),
        count=count.memory_bytes,
        process=process,
        seconds=statistics.median(seconds[1:] or seconds),
    )


def model_of(options: argparse.Namespace) -> Any:
    """Return the model that trains: the one in the folder, or one of random weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from tasks.io.weights import checkpoints

    if options.model:
        return checkpoints.load(options.model, dtype=options.dtype)[0]
    shape = {"num_attention_heads": 4, "vocab_size": 49_152} | SHAPES[options.shape]
    config = LlamaConfig(**shape, tie_word_embeddings=True, bos_token_id=0, eos_token_id=0)
    torch.manual_seed(0)
    config._attn_implementation = "sdpa"
    previous = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, options.dtype))
    try:
        return LlamaForCausalLM(config)
    finally:
        torch.set_default_dtype(previous)


def in_memory(model: Any) -> int:
    """Return the bytes of weights that are not memory-mapped: a mapped tensor has no memory from the allocator."""
    tensors = {*model.parameters(), *model.buffers()}
    return sum(tensor.nbytes for tensor in tensors if tensor.untyped_storage().resizable())


def process_bytes(field: str) -> int:
    """Return a figure of the kernel about this process: VmRSS, memory now, or VmHWM, the most since the last reset."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split(f"{field}:")[1].split()[0])


if __name__ == "__main__":
    main()
