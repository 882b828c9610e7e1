"""Numbers that the authors' own code gave, and the inputs that it gave them for.

`data/<method>.json` has them, and under `source` the repository, the commit and the files. Its functions and classes
were run as they are, on a CPU with torch 2.13 and on what `wave` makes; some had to be taken out of files whose other
imports are gone. None of that code is here. TRL's losses are made by `trl_numbers.py`.
"""

import json
from pathlib import Path

import torch


def wave(*shape, phase=0.0, dtype=torch.float64):
    """sin(0.37 n² + phase) for n = 1, 2, …, row by row: no generator is asked, and matrices have full rank."""
    n = torch.arange(1, torch.Size(shape).numel() + 1, dtype=torch.float64)
    return torch.sin(0.37 * n**2 + phase).view(shape).to(dtype)


def frozen(name):
    """What the official code of this method gave."""
    return json.loads((Path(__file__).parent / "data" / f"{name}.json").read_text())


def same(found, expected, *, rtol=1e-6, atol=1e-6):
    """Hold a tensor, or several, against frozen numbers."""
    if isinstance(found, dict):
        for name, one in found.items():
            same(one, expected[name], rtol=rtol, atol=atol)
    else:
        wanted = torch.tensor(expected, dtype=torch.float64)
        torch.testing.assert_close(found.detach().double(), wanted, rtol=rtol, atol=atol)
