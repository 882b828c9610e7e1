"""CPU time of attention in bf16: `python benchmarks/attention.py [--rounds 15]`.

Texts of several lengths, the heads of SmolLM2-135M (9, of which 3 each share keys; width 64), causal, on one thread. Ours
(`tasks/engine/attention.py`) and torch's kernel take turns. Printed: medians of the ratio of torch's CPU time to ours, paired by
round, for the forward pass alone and with gradients; and the error of both against fp32, as a share of the result's norm.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tasks.engine.attention import by_products  # noqa: E402

LENGTHS = (32, 64, 128, 256, 360, 512, 1024, 2048)
Kernel = Callable[..., Tensor]


def torchs(*states: Tensor) -> Tensor:
    """Run torch's kernel."""
    return F.scaled_dot_product_attention(*states, is_causal=True, enable_gqa=True)


def forward(kernel: Kernel, states: list[Tensor]) -> Tensor:
    """Return the kernel's output for queries, keys and values."""
    with torch.no_grad():
        return kernel(*states)


def gradients(kernel: Kernel, states: list[Tensor]) -> Tensor:
    """Return the gradients of queries, keys and values, in one vector."""
    out = kernel(*states)
    return torch.cat([gradient.flatten() for gradient in torch.autograd.grad(out, states, torch.ones_like(out))])


def cpu_s(what: Callable[[Kernel, list[Tensor]], Tensor], kernel: Kernel, states: list[Tensor]) -> float:
    """Return the CPU seconds of a call."""
    start = time.process_time()
    what(kernel, states)
    return time.process_time() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(1)
    # As after loading a model: from here on glibc reuses memory that it would have asked the system for each time.
    torch.zeros(2**22)
    for length in LENGTHS:
        given = [torch.randn(1, heads, length, 64, requires_grad=True) for heads in (9, 3, 3)]
        rounded = [tensor.detach().bfloat16().requires_grad_() for tensor in given]
        reports = []
        for what in (forward, gradients):
            exact = what(torchs, given)
            gaps = [float((what(kernel, rounded) - exact).norm() / exact.norm()) for kernel in (torchs, by_products)]
            taken = [[cpu_s(what, kernel, rounded) for kernel in (torchs, by_products)] for _ in range(options.rounds)]
            ratio = statistics.median(torch_s / our_s for torch_s, our_s in taken)
            reports.append(f"{what.__name__} {ratio:.2f} × (off by {gaps[0]:.4f}, ours by {gaps[1]:.4f})")
        print(f"{length:5} tokens: {', '.join(reports)}", flush=True)


if __name__ == "__main__":
    main()
