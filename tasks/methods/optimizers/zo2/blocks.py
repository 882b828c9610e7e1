"""Blocks of a model, which wait on disk or in host memory and are loaded one after the other into the memory of the computing device."""

import mmap
import os
import tempfile
import threading
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

ALIGNMENT = 64
"""The alignment of tensors in a file, in bytes."""


@dataclass(frozen=True)
class Home:
    """The place where a block's tensors wait, in their order."""

    tensors: Sequence[Tensor]
    pages: mmap.mmap | None = None
    """The memory map of the file that holds the tensors; None for host memory."""

    def rest(self) -> None:
        """Release the memory pages that reading and writing the file occupied; written data are kept."""
        if self.pages is not None and hasattr(mmap, "MADV_DONTNEED"):
            self.pages.madvise(mmap.MADV_DONTNEED)


class Block:
    """A decoder layer with the tensors that belong to it alone."""

    def __init__(self, module: nn.Module, tensors: Sequence[Tensor], places: Sequence[int | None]) -> None:
        self.module, self.tensors = module, tensors
        self.places = [place for place in places if place is not None]
        """The places, in the optimizer's groups, of its tensors that train at some time."""
        self.trained = [place is not None for place in places]
        """For each tensor, True if it trains at some time."""
        self.home: Home | None = None
        """None for a block that stays in memory."""

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.tensors)

    def move_out(self, home: Home) -> None:
        """Move the tensors from memory to a home for the first time."""
        self.home = home
        self.leave([True] * len(self.tensors))

    def arrive(self, device: torch.device) -> None:
        """Copy the tensors from home to the memory of a device."""
        assert self.home is not None
        for tensor, waiting in zip(self.tensors, self.home.tensors, strict=True):
            tensor.data = torch.empty_like(waiting, device=device).copy_(waiting)
        self.home.rest()

    def leave(self, changed: Sequence[bool]) -> None:
        """Copy changed tensors home, and drop the others from memory."""
        assert self.home is not None
        for tensor, waiting, is_new in zip(self.tensors, self.home.tensors, changed, strict=True):
            if is_new:
                waiting.copy_(tensor.data)
            tensor.data = waiting
        self.home.rest()


class Blocks:
    """The blocks of a model in their order, with room in memory for some of them."""

    def __init__(self, blocks: Sequence[Block], room: int, device: torch.device) -> None:
        self.blocks, self.room, self.device = blocks, room, device
        self.uploads = self.resident = self.most_resident = 0
        """Counts of blocks: those loaded in passes so far, those in memory now, and the most at a time. Blocks that stay do not count."""
        self._room, self._count = threading.Semaphore(room), threading.Lock()
        self._arrivals, self._departures = (ThreadPoolExecutor(1, name) for name in ("arrivals", "departures"))
        self._inward, self._outward = self._stream(), self._stream()

    @property
    def most_bytes(self) -> int:
        """Return the most bytes of blocks in memory at a time, including those that stay."""
        travelling = sorted((block.nbytes for block in self.blocks if block.home), reverse=True)
        return sum(block.nbytes for block in self.blocks if not block.home) + sum(travelling[: self.room])

    def through(self) -> Generator[Block, None, None]:
        """Yield each block while it is in memory. Meanwhile the next one is loaded and the previous one is moved home.

        Close the generator (`contextlib.closing`): otherwise, if the caller fails, a block that is being loaded waits without end.
        """
        travelling = [block for block in self.blocks if block.home]
        following = dict(pairwise(travelling))
        departures: list[Future[None]] = []
        ahead = self._arrivals.submit(self.bring, travelling[0]) if travelling else None
        present: Block | None = None
        try:
            for block in self.blocks:
                if block.home is None:
                    yield block
                    continue
                assert ahead is not None
                ahead.result()
                self.uploads += 1
                present, next_block = block, following.get(block)
                ahead = self._arrivals.submit(self.bring, next_block) if next_block else None
                yield block
                self._finish_computing()
                departures.append(self._departures.submit(self.take_away, block))
                present = None
        finally:
            if present:  # the caller failed while the next block was being loaded
                self.take_away(present)
                if ahead:
                    ahead.result()
                    self.take_away(following[present])
            for departure in departures:
                departure.result()

    def bring(self, block: Block) -> None:
        """Load a block into memory as soon as there is room."""
        self._room.acquire()
        with self._count:
            self.resident += 1
            self.most_resident = max(self.most_resident, self.resident)
        with _beside_computing(self._inward):
            block.arrive(self.device)

    def take_away(self, block: Block, *, changed: bool = True) -> None:
        """Move a block home. Without `changed` nothing is copied, since home has the same values."""
        with _beside_computing(self._outward):
            block.leave(block.trained if changed else [False] * len(block.tensors))
        with self._count:
            self.resident -= 1
        self._room.release()

    def _finish_computing(self) -> None:
        """Wait until a GPU has finished its queued work; on a CPU nothing is queued."""
        if self.device.type == "cuda":
            torch.cuda.current_stream(self.device).synchronize()

    def _stream(self) -> "torch.cuda.Stream | None":
        """Return a CUDA stream for copies; None on a CPU."""
        if self.device.type != "cuda":
            return None
        return torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]


@contextmanager
def _beside_computing(stream: "torch.cuda.Stream | None") -> Iterator[None]:
    """Make copies on a CUDA stream of their own, and wait for them at the end."""
    if stream is None:
        yield
        return
    with torch.cuda.stream(stream):
        yield
        stream.synchronize()


def on_disk(tensors: Sequence[Tensor], folder: Path) -> Home:
    """Return a home for tensors like these in an unnamed file in `folder`, which is removed when this process ends.

    Raises OSError if the disk has no room for the file.
    """
    starts, size = [], 0
    for tensor in tensors:
        starts.append(size)
        size += -(-tensor.nbytes // ALIGNMENT) * ALIGNMENT
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)  # else a full disk kills the process at a write to a mapped page
        else:
            file.truncate(size)
        pages = mmap.mmap(file.fileno(), size)
    waiting = [
        torch.frombuffer(pages, dtype=tensor.dtype, count=tensor.numel(), offset=start).view(tensor.shape)
        for tensor, start in zip(tensors, starts, strict=True)
    ]
    return Home(waiting, pages)


def in_host_memory(tensors: Sequence[Tensor]) -> Home:
    """Return a home for tensors like these in host memory, pinned if there is a GPU."""
    pinned = torch.cuda.is_available()
    return Home([torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=pinned) for tensor in tensors])
