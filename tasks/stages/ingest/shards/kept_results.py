"""Cache the results of functions of blocks for later runs, so that only the new part of a grown file is compared again."""

import hashlib
import pickle
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tasks.core.text import arrays
from tasks.core.text.texts import Apply, Chosen
from tasks.io.system import files, workers
from tasks.stages.ingest.shards.collection import WordsOf


class KeptResults:
    """Applies functions to blocks of texts, and caches the resulting arrays in a folder under a digest of everything they depend on.

    They depend on the code of the function and its arguments, on the shards of the block, and on the chosen texts, but not on the position of
    the block among others. A missing result is computed. The cache changes no byte of the results.
    """

    def __init__(self, folder: Path, apply: Apply) -> None:
        """Compute missing results by `apply`."""
        self._folder, self._apply = folder, apply
        self._used: set[Path] = set()

    def __call__(self, function: Callable[[Any], Any], items: Iterable[Any], number: int) -> Iterator[Any]:
        """Yield the result of each block, in their order."""
        del number
        blocks = list(items)
        program = workers.code_of(workers.module_of(function)).encode() + b"\0" + pickle.dumps(function)
        paths = [self._path(program, block) for block in blocks]
        is_kept = [path is not None and path.is_file() for path in paths]
        missing = [block for block, kept in zip(blocks, is_kept, strict=True) if not kept]
        made = self._apply(function, missing, len(missing))
        for block, path, kept in zip(blocks, paths, is_kept, strict=True):
            result = _read(path) if kept else None
            if result is None:
                result = next(self._apply(function, [block], 1) if kept else made)
                self._keep(path, result)
            yield result

    def forget_unused(self) -> None:
        """Remove the results that this run has not used."""
        for path in self._folder.iterdir() if self._folder.is_dir() else ():
            if path not in self._used:
                files.remove(path)

    def _path(self, program: bytes, block: Chosen) -> Path | None:
        """Return the path of a function's result for a block; None if the block's texts are recreated in every run."""
        words = block.words_of_block
        if not isinstance(words, WordsOf) or not words.key:
            return None
        digest = hashlib.sha256(f"{words.key} {len(program)} ".encode() + program)
        digest.update((block.numbers - block.start).tobytes())
        path = self._folder / f"{digest.hexdigest()[:32]}.npy"
        self._used.add(path)
        return path

    def _keep(self, path: Path | None, result: Any) -> None:
        if path is None:
            return
        with files.atomic_path(path) as partial:
            partial.parent.mkdir(parents=True, exist_ok=True)
            arrays.save(partial, result)


def _read(path: Path | None) -> Any:
    """Return a cached result; None if the file is damaged."""
    assert path is not None
    try:
        return np.load(path)
    except (ValueError, EOFError):
        return None
