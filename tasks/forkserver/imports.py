"""Import of torch, transformers and peft in a program that is no child of the fork server, in as little time as there."""

from collections.abc import Iterator
from contextlib import contextmanager

from tasks.core.imports import lasting
from tasks.io.system import process


@contextmanager
def of_models() -> Iterator[None]:
    """Let the imports inside take less time: with quiet libraries, as `lasting`, and after `tasks.forkserver.libraries`.

    For a program that has one thread. Imports of `ratchet merge` take 4 CPU-seconds so, and 7 without.
    """
    process.quiet()
    with lasting():
        import tasks.forkserver.libraries  # noqa: F401

        yield
