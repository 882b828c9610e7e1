"""Helpers for tests of `pretrain` and `tune`: end a training early, and compare its files."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tasks.engine.training.telemetry import Telemetry
from tasks.io.weights import banks


class Killed(Exception):
    """Raised in place of the death of the process."""


@contextmanager
def killed_at(last: int, member: str = "") -> Iterator[None]:
    """Raise `Killed` after a given step of the training in this block, or of the training of a given member of a bank."""
    report = Telemetry.on_step

    def until(self, metrics):
        report(self, metrics)
        if metrics.step == last and (self._run.item or "").endswith(member):
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Telemetry, "on_step", until)
        with pytest.raises(Killed):
            yield


def digests(folder: Path) -> dict[str, str]:
    """Return a hash of each file in a folder."""
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}


def of_members(bank: Path) -> dict[str, dict[str, str]]:
    """Return the hashes of each member's files."""
    return {name: digests(bank / member.folder) for name, member in banks.members(bank).items()}
