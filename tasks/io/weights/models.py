"""Load models of any kind, including compressed ones.

Code that needs only models saved by training uses `tasks.io.weights.checkpoints`, and then does not depend on the compressors.
"""

from pathlib import Path
from typing import Any

from tasks.io.weights import checkpoints, compressed


def load(path: Path, base: Path | None = None, *, dtype: str = "float32", device: str = "cpu") -> tuple[Any, Any]:
    """Load the model at `path` and its tokenizer, in evaluation mode. An adapter or a difference is applied to `base`."""
    open_folder = compressed.load if checkpoints.is_compressed(path) else checkpoints.load
    return open_folder(path, base, dtype=dtype, device=device)
