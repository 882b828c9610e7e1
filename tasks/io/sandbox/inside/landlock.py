"""One more wall, by Landlock: reading only, but in the work folder; no TCP; signals and abstract sockets stay inside.

The process restricts itself, so that it holds under whatever built the namespaces; what it starts is under the same rules.
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
    """The version of Landlock in this kernel, 0 for none."""
    found: int = ctypes.CDLL(None).syscall(CREATE, None, ctypes.c_size_t(0), 1)
    return max(found, 0)


def restrict(work: Path) -> None:
    """Put this process under the rules for good, where the kernel has them. OSError where it has and does not."""
    if not (known := version()):
        return
    read = READ_FILE | READ_FOLDER
    every = (1 << (13 + (known >= 2) + (known >= 3))) - 1
    never = EXECUTE | MAKE_CHARACTER_DEVICE | MAKE_BLOCK_DEVICE  # in `work`: neither programs nor devices
    rights = [every, 3 if known >= 4 else 0, 3 if known >= 6 else 0]
    attributes = struct.pack("=QQQ", *rights)[: 8 * (1 + (known >= 4) + (known >= 6))]
    rules = call(CREATE, attributes, ctypes.c_size_t(len(attributes)), 0)
    # What a folder allows, all in it does. So programs are allowed beside the way to `work`, and nowhere on it.
    way = {work, *work.parents}
    programs = [
        path for folder in work.parents for path in folder.iterdir() if path not in way and not path.is_symlink()
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
    """What a call of Landlock's returns; OSError where that says failure."""
    result: int = ctypes.CDLL(None, use_errno=True).syscall(number, *arguments)
    if result < 0:
        failure = ctypes.get_errno()
        raise OSError(failure, f"landlock: {os.strerror(failure)}")
    return result
