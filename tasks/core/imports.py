"""Import of large libraries in less time: without garbage collection, which would search them in vain, and without what they can do without."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def lasting() -> Iterator[None]:
    """Pause garbage collection for the imports inside, and exempt what they created from later collections.

    Collections while torch and its kin load, and once more when the process ends, took 1.2 and 1.5 of the 7.4 seconds of
    a process that loads the engine and does nothing, and 0.6 of the 2.3 of one that loads MLflow.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@contextmanager
def without(*libraries: str) -> Iterator[None]:
    """Let the imports inside go on as if `libraries` were not installed; those that are imported already stay, and all can be afterwards.

    For a process that has one thread: another one's import of them would fail too.
    """
    hidden = [name for name in libraries if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: `import` and `find_spec` find no such library
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
