"""Memory of a training by selector, against full fine-tuning and LoRA: `python benchmarks/selector_memory.py MODEL [--steps 3]`.

MODEL is the folder of a model, such as `models/base` after `ratchet run fetch`. Every side trains the same packs of arbitrary tokens in
fp32 with AdamW, one after the other, each in a process of its own. Printed for each:

  trains       numbers that train at some step
  optimizer    bytes of gradients and of the optimizer's state at the end of a step, as they lie in memory
  peak         the most bytes of tensors at a time, weights included, by the allocator's own count: choice of weights, steps, all
  count        what `ratchet methods selectors --fit MODEL` says of that peak beforehand
  of full      the peak as a share of that of full fine-tuning

The allocator counts tensors of this process on the CPU. What Python and libraries take beside them is the same for every side.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

LORA = {"rank": 16, "alpha": 32, "targets": "all-linear"}
SIDES: dict[str, dict[str, Any]] = {
    "full": {"selector": "all"},
    "lora": {"adapter": "lora", "selector": "all"},
    "lisa": {"selector": "lisa"},
    "s2ft": {"selector": "s2ft"},
    "kappatune": {"selector": "kappatune"},
    "neuroada": {"selector": "neuroada"},
    "spiel ag": {"selector": "spiel", "methods": {"spiel": {"criterion": "ag"}}},
    "spiel ma": {"selector": "spiel", "methods": {"spiel": {"criterion": "ma"}}},
    "ist": {"adapter": "lora", "selector": "ist"},
    "locft_bf": {"selector": "locft_bf"},
    "cofitune": {"selector": "cofitune"},
}


@dataclass(frozen=True)
class Memory:
    """What a training took."""

    side: str
    trains: int
    optimizer: int
    """Bytes of gradients and of the optimizer's state."""
    peak: int
    """Bytes of tensors, the weights included."""
    count: int
    """The peak as it was foretold."""


def main() -> None:
    """Print a line of JSON for each side, then the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--sides", nargs="*", choices=[*SIDES], default=[*SIDES], metavar="SIDE", help="some of them")
    parser.add_argument("--steps", type=int, default=3, help="of each training (3)")
    parser.add_argument("--tokens", type=int, default=512, help="of a pack, one a step (512)")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    rows = []
    # The allocator would count what a training before has left behind.
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as processes:
        for row in processes.map(partial(measured, options=options), options.sides):
            rows.append(row)
            print(json.dumps(vars(row)), flush=True)
    full = next((row.peak for row in rows if row.side == "full"), None)
    print(f"\n{'':<10} {'trains':>12} {'optimizer':>12} {'peak':>12} {'count':>12} {'peak/count':>10} {'of full':>8}")
    for row in rows:
        share = f"{row.peak / full:>8.0%}" if full else ""
        megabytes = " ".join(f"{size / 1e6:>9,.1f} MB" for size in (row.optimizer, row.peak, row.count))
        print(f"{row.side:<10} {row.trains:>12,} {megabytes} {row.peak / row.count:>10.2f} {share}")


def measured(side: str, options: argparse.Namespace) -> Memory:
    """Train a side for some steps and return what it took."""
    from torch.optim.optimizer import register_optimizer_step_post_hook

    from tasks.core.compute import Compute
    from tasks.core.training import FAMILIES, Training
    from tasks.engine import device
    from tasks.engine.training import compose, fit, train
    from tasks.io.weights import checkpoints

    settings = dict(SIDES[side])
    sections: dict[str, dict[str, Any]] = {"lora": LORA, **settings.pop("methods", {})}
    plan = Training(
        **{"adapter": "none"} | settings,
        max_tokens=options.steps * options.tokens,
        pack_tokens=options.tokens,
        save_every=0,
        validate_every=0,
        warmup=0.0,
    )
    names = {getattr(plan, family.removesuffix("s")) for family in FAMILIES}
    parts = compose.read(plan, {name: sections.get(name, {}) for name in names})
    compute = Compute(precision="fp32", threads=options.threads)
    device.use(compute)
    count = fit.fit(options.model, plan, sections)
    model, _ = checkpoints.load(options.model)
    weights = sum(tensor.nbytes for tensor in {*model.parameters(), *model.buffers()})
    sequences = [fit.arbitrary(options.tokens, model.config.vocab_size) for _ in range(options.steps)]
    optimizers: list[int] = []
    handle = register_optimizer_step_post_hook(lambda optimizer, *_: optimizers.append(held(optimizer)))
    with tempfile.TemporaryDirectory() as work, allocations() as running:
        result = train.train(model.train(), train.TrainData(sequences), parts, plan, compute, Path(work))
    handle.remove()
    return Memory(side, result.trainable, max(optimizers), weights + max(running), count.memory_bytes)


def held(optimizer: Any) -> int:
    """Return the bytes of an optimizer's gradients and state."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    gradients = sum(parameter.grad.nbytes for parameter in parameters if parameter.grad is not None)
    states: list[Mapping[str, Any]] = list(optimizer.state.values())
    return gradients + sum(value.nbytes for state in states for value in state.values() if hasattr(value, "nbytes"))


@contextmanager
def allocations() -> Iterator[list[int]]:
    """Yield a list that holds, at the end, the bytes of tensors that were allocated inside after each allocation and release."""
    from torch.profiler import ProfilerActivity, profile

    running = [0]
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as profiler:
        yield running
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        running.append(running[-1] + event.nbytes())


if __name__ == "__main__":
    main()
