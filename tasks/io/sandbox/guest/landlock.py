"""Landlock rules: read-only outside the work folder, no TCP, signals and abstract sockets confined to the sandbox.

The process restricts itself, so the rules hold whichever tool made the namespaces. Its child processes inherit them.
"""

import ctypes
import os
import struct
from pathlib import Path
from typing import Any

CREATE, ADD, RESTRICT = 444, 445, 446
EXECUTE, WRITE_FILE, READ_FILE, READ_FOLDER, MAKE_CHARACTER_DEVICE, MAKE_BLOCK_DEVICE = (
    1 << bit for bit in (0, 1, 2, 3, 6, 11)
)


def version() -> int:
    """Return the version of Landlock's interface in this kernel, 0 for none."""
    abi: int = ctypes.CDLL(None).syscall(CREATE, None, ctypes.c_size_t(0), 1)
    return max(abi, 0)


def restrict(work: Path) -> None:
    """Restrict this process permanently, if the kernel has Landlock. Raises OSError if the kernel has it and refuses."""
    if not (abi := version()):
        return
    read = READ_FILE | READ_FOLDER
    every = (1 << (13 + (abi >= 2) + (abi >= 3))) - 1
    never = EXECUTE | MAKE_CHARACTER_DEVICE | MAKE_BLOCK_DEVICE  # in `work`: no execution, no new devices
    rights = [every, 3 if abi >= 4 else 0, 3 if abi >= 6 else 0]
    attributes = struct.pack("=QQQ", *rights)[: 8 * (1 + (abi >= 4) + (abi >= 6))]
    rules = call(CREATE, attributes, ctypes.c_size_t(len(attributes)), 0)
    # A rule on a folder covers everything below it. So execution is allowed only in the siblings of `work` and of its parents.
    work_and_parents = {work, *work.parents}
    programs = [
        path
        for folder in work.parents
        for path in folder.iterdir()
        if path not in work_and_parents and not path.is_symlink()
    ]
    for path, allowed in (
        (Path("/"), read), (Path("/dev"), read | WRITE_FILE), (work, every & ~never), *((path, EXECUTE) for path in programs)
    ):  # fmt: skip
        descriptor = os.open(path, os.O_PATH)
        call(ADD, rules, 1, struct.pack("=Qi", allowed, descriptor), 0)
        os.close(descriptor)
    call(RESTRICT, rules, 0)
    os.close(rules)


def call(number: int, *arguments: Any) -> int:
    """Make a system call of Landlock and return its result. Raises OSError if it fails."""
    result: int = ctypes.CDLL(None, use_errno=True).syscall(number, *arguments)
    if result < 0:
        failure = ctypes.get_errno()
        raise OSError(failure, f"landlock: {os.strerror(failure)}")
    return result
