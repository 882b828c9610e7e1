"""The system-call filter of a sandbox: it refuses calls that tested programs do not need and that attacks on kernels use.

A classic BPF program in the form that `prctl(PR_SET_SECCOMP)` and `bwrap --seccomp` take. Numbers are those of the
kernel's tables for x86-64 and arm64. Other machines have no filter and so no sandbox of level 2.

The filter lists refused calls, not allowed ones. The calls of CPython and the C library change with their versions (rseq, openat2,
statx, futex_waitv, map_shadow_stack, …), so a call that a list of allowed ones omits would fail correct programs, on some machines
only. To make the list complete, every call of the tables up to `NEWEST` was reviewed. Later calls fail with ENOSYS, as on an older
kernel, for which C libraries are prepared.
"""

import errno
import platform
import struct
from collections.abc import Iterator

# struct seccomp_data: number at 0, architecture at 4, six arguments of 8 bytes from 16 (low half first).
NUMBER, ARCHITECTURE, FIRST_ARGUMENT, SECOND_ARGUMENT = 0, 4, 16, 24
LOAD, JUMP_EQUAL, JUMP_GREATER_OR_EQUAL, JUMP_ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
ALLOW, ERRNO, KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
NEW_NAMESPACES = 0x7E020080  # every CLONE_NEW… flag
# AF_UNIX, AF_INET, AF_INET6, which the network namespace confines. AF_VSOCK would bypass it and reach the hypervisor.
LOCAL_FAMILIES = (1, 2, 10)

NEWEST = 469  # of Linux 6.18
# Calls with the same number on both architectures, whose tables are the same from 424 on.
COMMON_REFUSED = {
    "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "open_tree": 428, "move_mount": 429,
    "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433, "pidfd_getfd": 438, "process_madvise": 440,
    "mount_setattr": 442, "quotactl_fd": 443, "memfd_secret": 447, "process_mrelease": 448, "statmount": 457, "listmount": 458, "setxattrat": 463,
    "open_tree_attr": 467, "file_setattr": 469,
}  # fmt: skip
REFUSED = {
    "x86_64": {
        "shmget": 29, "shmat": 30, "semget": 64, "msgget": 68, "flock": 73, "ptrace": 101, "syslog": 103, "personality": 135,
        "setpriority": 141, "vhangup": 153, "modify_ldt": 154, "pivot_root": 155, "chroot": 161, "acct": 163, "mount": 165, "umount2": 166,
        "swapon": 167, "swapoff": 168, "reboot": 169, "iopl": 172, "ioperm": 173, "init_module": 175,
        "delete_module": 176, "quotactl": 179, "setxattr": 188, "lsetxattr": 189, "fsetxattr": 190, "io_setup": 206, "mq_open": 240, "kexec_load": 246, "add_key": 248, "request_key": 249,
        "keyctl": 250, "ioprio_set": 251, "inotify_init": 253, "migrate_pages": 256, "unshare": 272, "tee": 276, "vmsplice": 278, "move_pages": 279, "inotify_init1": 294, "perf_event_open": 298, "fanotify_init": 300,
        "name_to_handle_at": 303, "open_by_handle_at": 304, "setns": 308, "process_vm_readv": 310,
        "process_vm_writev": 311, "kcmp": 312, "finit_module": 313, "memfd_create": 319, "kexec_file_load": 320,
        "bpf": 321, "userfaultfd": 323,
    },
    "aarch64": {
        "io_setup": 0, "setxattr": 5, "lsetxattr": 6, "fsetxattr": 7, "inotify_init1": 26, "ioprio_set": 30, "flock": 32, "umount2": 39,
        "mount": 40, "pivot_root": 41, "chroot": 51, "vhangup": 58, "quotactl": 60, "vmsplice": 75, "tee": 77, "acct": 89,
        "personality": 92, "unshare": 97, "kexec_load": 104, "init_module": 105, "delete_module": 106, "syslog": 116,
        "ptrace": 117, "setpriority": 140, "reboot": 142, "mq_open": 180, "msgget": 186, "semget": 190, "shmget": 194, "shmat": 196,
        "add_key": 217, "request_key": 218, "keyctl": 219, "swapon": 224, "swapoff": 225, "migrate_pages": 238,
        "move_pages": 239, "perf_event_open": 241, "fanotify_init": 262, "name_to_handle_at": 264, "open_by_handle_at": 265, "setns": 268,
        "process_vm_readv": 270, "process_vm_writev": 271, "kcmp": 272, "finit_module": 273, "memfd_create": 279,
        "bpf": 280, "userfaultfd": 282, "kexec_file_load": 294,
    },
}  # fmt: skip
# Calls whose first argument is a process: allowed on the caller (0) only, so that no program can starve the server.
SELF_ONLY = {"x86_64": (142, 144, 203, 302, 314), "aarch64": (118, 119, 122, 261, 274)}
# Commands of fcntl on files that other sandboxes see too: they reveal what others do (F_NOTIFY, F_GETLK, F_OFD_GETLK), block others
# (F_SETLEASE, F_OFD_SETLK, F_OFD_SETLKW), or leave a trace (F_SET_RW_HINT, F_SET_FILE_RW_HINT).
FCNTL = {"x86_64": 72, "aarch64": 25}
FCNTL_REFUSED = (5, 36, 37, 38, 1024, 1026, 1036, 1038)
FCNTL_GRANTED = (6, 7)
"""F_SETLK, F_SETLKW: they report success and lock nothing. SQLite needs them for every file, and no other case can
change its files."""
TIMES = {"x86_64": (132, 235, 261, 280), "aarch64": (88,)}  # utime, utimes, futimesat, utimensat
SOCKETS = {"x86_64": (41, 53), "aarch64": (198, 199)}  # socket, socketpair
CLONE = {"x86_64": 56, "aarch64": 220}
CLONE3 = 435  # its flags are in memory, which a filter cannot read; without it the C library uses clone

Instruction = tuple[int, int, int, int]


def program(machine: str | None = None, *, times: bool = True) -> bytes:
    """Return the filter for this kind of machine. Raises RuntimeError if there is none.

    Without `times`, file times cannot be changed.
    """
    machine = machine or platform.machine()
    if machine not in ARCHITECTURES:
        raise RuntimeError(f"there is no system-call filter for {machine}")
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions(machine, times))


def instructions(machine: str, times: bool) -> Iterator[Instruction]:
    """Yield the filter's instructions: (code, jump if true, jump if false, operand)."""
    yield LOAD, 0, 0, ARCHITECTURE
    yield JUMP_EQUAL, 1, 0, ARCHITECTURES[machine]
    yield RETURN, 0, 0, KILL_PROCESS
    yield LOAD, 0, 0, NUMBER
    yield from when(
        (JUMP_GREATER_OR_EQUAL, NEWEST + 1), [refuse(errno.ENOSYS)]
    )  # this also refuses x86-64 calls by their second numbering (x32)
    for number in sorted((*COMMON_REFUSED.values(), *REFUSED[machine].values(), *(() if times else TIMES[machine]))):
        yield from when((JUMP_EQUAL, number), [refuse(errno.EPERM)])
    yield from when((JUMP_EQUAL, CLONE3), [refuse(errno.ENOSYS)])
    for number in SELF_ONLY[machine]:
        yield from when((JUMP_EQUAL, number), only_first_argument((0,), errno.EPERM))
    for number in SOCKETS[machine]:
        yield from when((JUMP_EQUAL, number), only_first_argument(LOCAL_FAMILIES, errno.EAFNOSUPPORT))
    commands = [(LOAD, 0, 0, SECOND_ARGUMENT)]
    for values, answer in ((FCNTL_REFUSED, refuse(errno.EPERM)), (FCNTL_GRANTED, refuse(0))):
        commands += [part for value in values for part in when((JUMP_EQUAL, value), [answer])]
    yield from when((JUMP_EQUAL, FCNTL[machine]), [*commands, (RETURN, 0, 0, ALLOW)])
    flags = [
        (LOAD, 0, 0, FIRST_ARGUMENT),
        (JUMP_ANY_BIT, 0, 1, NEW_NAMESPACES),
        refuse(errno.EPERM),
        (RETURN, 0, 0, ALLOW),
    ]
    yield from when((JUMP_EQUAL, CLONE[machine]), flags)
    yield RETURN, 0, 0, ALLOW


def when(test: tuple[int, int], body: list[Instruction]) -> list[Instruction]:
    """Return `body` after a jump that skips it unless the loaded number passes the test."""
    code, operand = test
    return [(code, 0, len(body), operand), *body]


def only_first_argument(values: tuple[int, ...], error: int) -> list[Instruction]:
    """Return instructions that allow the call if its first argument is one of `values`, else fail it with `error`."""
    tests = [(JUMP_EQUAL, len(values) - index, 0, value) for index, value in enumerate(values)]
    return [(LOAD, 0, 0, FIRST_ARGUMENT), *tests, refuse(error), (RETURN, 0, 0, ALLOW)]


def refuse(error: int) -> Instruction:
    """Return an instruction that skips the call and reports `error`; 0 reports success."""
    return RETURN, 0, 0, ERRNO | error
