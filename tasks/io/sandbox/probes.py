"""Attempts to break out of the sandbox, all of which must fail before it runs any case."""

from functools import cache
from pathlib import Path

from tasks.core.records import Tests
from tasks.io.sandbox.layout import ENVIRONMENT, WORK
from tasks.io.sandbox.process import Sandbox
from tasks.io.sandbox.records import Case, Isolation, Limits

LIMITS = Limits(wall_s=2.0, cpu_s=1.0, memory_mb=128)

# An attempt that succeeds sets `escaped` to a true value. A sandbox may stop an attempt by an exception, or kill it.
ATTEMPTS = {
    "reach the network": """
import socket
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(("192.0.2.1", 53))
escaped = True
""",
    "see a network interface": """
import socket
escaped = any(name != "lo" for _, name in socket.if_nameindex())
""",
    "reach the hypervisor": """
import socket
escaped = bool(socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM))
""",
    "read /etc/passwd": """
escaped = bool(open("/etc/passwd").read())
""",
    "list the home folder": f"""
import os
folders = {{"/home", "/root", "/etc", "/proc", "/sys", "/var", {str(Path.home())!r}, {str(Path.cwd())!r}}}
escaped = any(os.listdir(folder) for folder in folders - {{"/", {str(WORK)!r}}} if os.path.isdir(folder))
""",
    "see the environment": f"""
import os
escaped = bool(os.environ.keys() - {set(ENVIRONMENT)!r})
""",
    "import an installed package": """
from importlib.util import find_spec
escaped = any(map(find_spec, ["pip", "setuptools", "pydantic", "tasks"]))
""",
    "change the standard library": """
import os
os.chmod(os.__file__, 0o777)
escaped = bool(open(os.__file__, "a"))
""",
    "give a device of the host another time": """
import os
os.utime("/dev/null")
escaped = True
""",
    "hear of what others do with a folder of the host": """
import fcntl, os
escaped = fcntl.fcntl(os.open("/python", os.O_RDONLY), fcntl.F_NOTIFY, fcntl.DN_ACCESS | fcntl.DN_MULTISHOT) == 0
""",
    "lock a file of the host": """
import fcntl, os
fcntl.flock(os.open(os.__file__, os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)
escaped = True
""",
    "lock a device of the host": """
import fcntl, os
null = os.open("/dev/null", os.O_RDWR)
fcntl.lockf(null, fcntl.LOCK_EX | fcntl.LOCK_NB)
child = os.fork()
if child == 0:
    try:
        fcntl.lockf(null, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os._exit(1)
    os._exit(0)
escaped = os.waitpid(child, 0)[1] != 0
""",
    "write a file of 10 GB": """
with open("big", "wb") as file:
    file.seek(10 << 30)
    file.write(b"!")
escaped = True
""",
    "write many files": f"""
for index in range(20):
    with open(str(index), "wb") as file:
        file.write(bytes({LIMITS.file_bytes}))
escaped = True
""",
    "allocate 10 GB": """
escaped = bool(bytearray(10 << 30))
""",
    "hold more memory in several processes than one may": f"""
import os, time
reader, writer = os.pipe()
for _ in range(3):
    if os.fork() == 0:
        held = b"x" * ({LIMITS.memory_mb * 4 // 10} << 20)
        os.write(writer, b"!")
        time.sleep(60)
for _ in range(3):
    os.read(reader, 1)
time.sleep(0.2)
escaped = True
""",
    "start many processes": f"""
import os, time
for _ in range({4 * LIMITS.processes}):
    if os.fork() == 0:
        time.sleep(60)
escaped = True
""",
    "see processes of the host": """
import os
escaped = os.getppid() != 1
""",
    "kill its parent": """
import os, signal
os.kill(os.getppid(), signal.SIGKILL)
escaped = False  # if the parent lives to hear it
""",
    "gain power through system calls": """
import ctypes
libc = ctypes.CDLL(None)
attempts = [
    libc.setuid(0), libc.ptrace(16, 1, 0, 0), libc.mount(b"none", b"/work", b"tmpfs", 0, b""), libc.chroot(b"/work"),
    libc.sethostname(b"x", 1), libc.prlimit(1, 7, bytes(16), 0),
]
escaped = 0 in attempts
""",
    "write the verdict itself": """
import os
def frame(payload):
    return len(payload).to_bytes(4, "big") + payload
passed = [b"answer", b"", b"", b"", b""], [b"", b"", b"", b"", b""], [b"0" * 64, b"", b"", b"", b""], [b"clean"]
for descriptor in range(3, 256):
    for fields in passed:
        try:
            os.write(descriptor, frame(b"".join(map(frame, fields))))
        except OSError:
            pass
escaped = True
os._exit(0)
""",
}
HARMLESS = Case("def double(x):\n    return 2 * x\n", Tests("doctest", ">>> double(4)\n8\n", "double"))


@cache
def prove(name: Isolation) -> None:
    """Raise RuntimeError unless every attempt fails under this isolation and a harmless program passes."""
    with Sandbox(name, LIMITS) as sandbox:
        for attempt, program in ATTEMPTS.items():
            verdict = sandbox.judge(Case(program, Tests("script", "assert escaped", "escaped")))
            if verdict.kind == "passed" or not sandbox.usable:
                raise RuntimeError(
                    f"The sandbox ({name}) does not hold: a program managed to {attempt}. Nothing was run."
                )
        verdict = sandbox.judge(HARMLESS)
    if verdict.kind != "passed":
        raise RuntimeError(f"The sandbox ({name}) fails a harmless program: {verdict.detail}. Nothing was run.")
