"""Numbers that the authors' own code returned, and its inputs.

`data/<method>.json` holds the numbers, and under `source` the repository, the commit and the files. The functions and classes of that code were
run unchanged, on a CPU with torch 2.13 and on the output of `wave`. Some had to be taken out of files whose other imports no longer exist. This
repository contains none of that code. `trl_numbers.py` computes the losses of TRL.
"""

import json
from pathlib import Path

import torch


def wave(*shape, phase=0.0, dtype=torch.float64):
    """Return sin(0.37 n² + phase) for n = 1, 2, …, row by row. It needs no random generator, and matrices have full rank."""
    n = torch.arange(1, torch.Size(shape).numel() + 1, dtype=torch.float64)
    return torch.sin(0.37 * n**2 + phase).view(shape).to(dtype)


def frozen(name):
    """Return the numbers of the official code of a method."""
    return json.loads((Path(__file__).parent / "data" / f"{name}.json").read_text())


def same(found, expected, *, rtol=1e-6, atol=1e-6):
    """Assert that one or several tensors equal frozen numbers."""
    if isinstance(found, dict):
        for name, one in found.items():
            same(one, expected[name], rtol=rtol, atol=atol)
    else:
        wanted = torch.tensor(expected, dtype=torch.float64)
        torch.testing.assert_close(found.detach().double(), wanted, rtol=rtol, atol=atol)
