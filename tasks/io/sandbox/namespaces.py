"""Launcher of a sandbox on Linux: `python namespaces.py PLAN` starts a command in namespaces of its own.

It imports the standard library only, not this package, because it runs as a separate process. PLAN is JSON:
`binds` (host path, path inside), `devices`, `masks`, `work`, `bytes`, `filter` (hex), `command`, `environment`.

The steps: user, mount, process, network, IPC, host-name and cgroup namespaces; a new root in memory that holds the binds
and nothing else; no capability, no new privilege; the system-call filter; the command, as process 1, which restricts itself by
Landlock. When process 1 ends, the kernel ends all others.
"""

import ctypes
import json
import os
import signal
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

LIBC = ctypes.CDLL(None, use_errno=True)

NOBODY = 65534  # the user inside, and also outside if root starts the sandbox
NEW_NAMESPACES = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000

MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 8, 4096, 16384, 1 << 18
MNT_DETACH = 2
AT_FDCWD, AT_RECURSIVE = -100, 0x8000
ATTR_READ_ONLY, ATTR_NOSUID = 1, 2

PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_CAPBSET_READ, PR_CAPBSET_DROP = 1, 22, 23, 24
PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 38, 47
PR_CAP_AMBIENT_CLEAR_ALL, SECCOMP_MODE_FILTER = 4, 2
CAPABILITY_VERSION_3 = 0x20080522

SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
SYS_MOUNT_SETATTR = 442


def main(plan: dict[str, Any]) -> int:
    """Run the plan's command in a sandbox and return its exit status."""
    os.umask(0o022)  # independent of the caller's umask: the user `nobody` must be able to read what is built
    null = os.open(os.devnull, os.O_RDWR)  # open it now: the child replaces the root of this process too
    isolate()
    child = os.fork()
    if child == 0:
        exec_command(plan)
    return wait(child, null)


def isolate() -> None:
    """Move this process into new namespaces, in which it may build a file system; its next child is process 1 there."""
    user, group = os.getuid(), os.getgid()
    may_map_others = user == 0 and is_mapped(NOBODY)
    if may_map_others:  # the builder stays root, to read the bound files; the command runs as nobody
        mapping = f"0 0 1\n{NOBODY} {NOBODY} 1"
        write_maps = fork_map_writer(mapping, mapping)
    call("unshare", NEW_NAMESPACES)
    if may_map_others:
        write_maps()
    else:
        Path("/proc/self/setgroups").write_text("deny")
        map_users("self", f"{NOBODY} {user} 1", f"{NOBODY} {group} 1")


def is_mapped(user: int) -> bool:
    """Return True if the user exists in the user namespace of this process."""
    ranges = [map(int, line.split()) for line in Path("/proc/self/uid_map").read_text().splitlines()]
    return any(first <= user < first + count for first, _, count in ranges)


def fork_map_writer(users: str, groups: str) -> Callable[[], None]:
    """Fork a process that stays outside the new namespace, and return a function that makes it write the maps of users
    and groups.

    A process inside may map only its own user.
    """
    parent, (reader, writer) = os.getpid(), os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writer)
        status = 1
        try:
            if os.read(reader, 1):
                map_users(str(parent), users, groups)
                status = 0
        finally:
            os._exit(status)
    os.close(reader)

    def write_maps() -> None:
        os.write(writer, b"!")
        os.close(writer)
        if os.waitpid(child, 0)[1] != 0:
            raise OSError("the users of the new namespace could not be mapped")

    return write_maps


def map_users(process: str, users: str, groups: str) -> None:
    """Map users and groups of the process's namespace to those outside."""
    Path("/proc", process, "uid_map").write_text(users)
    Path("/proc", process, "gid_map").write_text(groups)


def wait(child: int, null: int) -> int:
    """Wait for the child and return its exit status; SIGTERM to this process kills the child, and with it the namespace."""

    def stop(number: int, frame: FrameType | None) -> None:
        os.kill(child, signal.SIGKILL)

    signal.signal(signal.SIGTERM, stop)
    for descriptor in (0, 1, 2):  # only the child keeps them open, so that they close when it ends
        os.dup2(null, descriptor)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def exec_command(plan: dict[str, Any]) -> NoReturn:
    """Replace this process by the plan's command."""
    status = 1
    try:
        call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL)
        call("sethostname", b"sandbox", 7)
        build_root(plan)
        drop_privileges()
        call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL)  # again, because a change of user clears it
        os.chdir(plan["work"])
        install_filter(bytes.fromhex(plan["filter"]))
        os.execve(plan["command"][0], plan["command"], plan["environment"])
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        sys.stderr.flush()
    finally:
        os._exit(status)


def build_root(plan: dict[str, Any]) -> None:
    """Make a root in memory, bind the plan's files into it, and unmount the host's root."""
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=1m")
    Path("/tmp/host").mkdir()
    call("syscall", SYS_PIVOT_ROOT[os.uname().machine], b"/tmp", b"/tmp/host")
    os.chdir("/")
    for source, target in plan["binds"]:
        bind(source, target)
        set_attributes(target, ATTR_READ_ONLY | ATTR_NOSUID)
    for device in plan["devices"]:
        bind(device, device)
        set_attributes(device, ATTR_READ_ONLY | ATTR_NOSUID)  # its contents can be written, its times cannot be changed
    for target in plan["masks"]:
        mount("tmpfs", target, "tmpfs", MS_NOSUID | MS_NODEV, "mode=555,size=4k")
    Path(plan["work"]).mkdir()
    options = f"mode=700,uid={NOBODY},gid={NOBODY},size={plan['bytes']},nr_inodes=4096"
    mount("tmpfs", plan["work"], "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, options)
    call("umount2", b"/host", MNT_DETACH)
    Path("/host").rmdir()
    set_attributes("/", ATTR_READ_ONLY | ATTR_NOSUID, recursive=False)


def bind(source: str, target: str) -> None:
    """Bind a file or folder of the host to a path inside."""
    origin, place = Path("/host" + source), Path(target)
    place.parent.mkdir(parents=True, exist_ok=True)
    if origin.is_dir():
        place.mkdir()
    else:
        place.touch()
    mount(str(origin), target, None, MS_BIND | MS_REC)


def mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    """Call mount(2)."""
    kind_bytes = kind.encode() if kind else None
    call("mount", source.encode(), target.encode(), kind_bytes, ctypes.c_ulong(flags), options.encode())


def set_attributes(target: str, attributes: int, recursive: bool = True) -> None:
    """Add attributes to a mount (Linux 5.12); unlike a remount, this keeps those that the host has set."""
    request = struct.pack("=QQQQ", attributes, 0, 0, 0)
    flags = AT_RECURSIVE if recursive else 0
    call("syscall", SYS_MOUNT_SETATTR, AT_FDCWD, target.encode(), flags, request, ctypes.c_size_t(len(request)))


def drop_privileges() -> None:
    """Become the user `nobody`, without any capability and with no way to gain one."""
    capability = 0
    while LIBC.prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0:
        call("prctl", PR_CAPBSET_DROP, capability, 0, 0, 0)
        capability += 1
    call("prctl", PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    if os.getuid() != NOBODY:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    call("capset", struct.pack("=Ii", CAPABILITY_VERSION_3, 0), bytes(24))
    call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def install_filter(instructions: bytes) -> None:
    """Install the system-call filter for this process and its descendants; it cannot be removed."""
    buffer = ctypes.create_string_buffer(instructions, len(instructions))
    header = struct.pack("HL", len(instructions) // 8, ctypes.addressof(buffer))
    call("prctl", PR_SET_SECCOMP, SECCOMP_MODE_FILTER, header, 0, 0)


def call(name: str, *arguments: Any) -> int:
    """Call a function of the C library and return its result. Raises OSError with the name of the function if it fails."""
    result: int = getattr(LIBC, name)(*arguments)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
