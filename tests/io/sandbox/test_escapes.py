"""No hostile program escapes, and the sandbox stays usable."""

import functools
import os
import platform
import resource
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.io.sandbox import Limits, pool, seccomp
from tasks.io.sandbox.guest import landlock
from tasks.io.sandbox.layout import INTERPRETER
from tasks.io.sandbox.probes import ATTEMPTS, HARMLESS, LIMITS
from tasks.io.sandbox.process import Sandbox
from tests.io.sandbox.support import QUICK, require, script, verdict, verdicts

ROOT = Path(__file__).resolve().parents[3]
LIBC = "import ctypes, os, sys\nlibc = ctypes.CDLL(None, use_errno=True)\n"
HOSTILE = ATTEMPTS | {
    "connect over TCP": "import socket\nescaped = bool(socket.create_connection(('192.0.2.1', 80), 1))",
    "listen on all interfaces and be reached": "import socket\nescaped = bool(socket.create_connection(('127.0.0.1', 22), 1))",
    "open a raw socket": "import socket\nescaped = bool(socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))",
    "open a packet socket": "import socket\nescaped = bool(socket.socket(17, socket.SOCK_RAW))",
    "talk to the kernel by netlink": "import socket\nescaped = bool(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0))",
    "resolve a name": "import socket\nescaped = bool(socket.getaddrinfo('example.org', 80))",
    "read the shadow file": "escaped = bool(open('/etc/shadow').read())",
    "know the host's users": "import pwd\nescaped = bool(pwd.getpwall())",
    "read its parent's environment": "escaped = bool(open('/proc/1/environ', 'rb').read())",
    "read kernel settings": "import os\nescaped = bool(os.listdir('/proc/sys'))",
    "follow a link to the host": "import os\nos.symlink('/etc/hostname', 'x')\nescaped = bool(open('x').read())",
    "climb above the root": "import os\nescaped = 'etc' in os.listdir('/' + '../' * 50)",
    "write to the root": "open('/x', 'w')\nescaped = True",
    "write to the server's own code": "import pathlib\nescaped = bool([open(p, 'a') for p in pathlib.Path('/python').rglob('*.py')])",
    "run a shell": "import subprocess\nescaped = subprocess.run(['/bin/sh', '-c', 'true']).returncode == 0",
    "find a set-user-id program": """
import os, stat
files = [os.path.join(folder, name) for folder, _, names in os.walk("/") for name in names]
escaped = any(os.lstat(file).st_mode & (stat.S_ISUID | stat.S_ISGID) for file in files)
""",
    "run a program that it wrote": """
import os, shutil, subprocess, sys
shutil.copy(sys.executable, "copy")
os.chmod("copy", 0o755)
escaped = subprocess.run(["./copy", "-c", ""]).returncode == 0
""",
    "run a script that it wrote": """
import os, pathlib, subprocess, sys
pathlib.Path("own").write_text(f"#!{sys.executable}\\n")
os.chmod("own", 0o755)
escaped = subprocess.run(["./own"]).returncode == 0
""",
    "see packages from a new interpreter": """
import subprocess, sys
escaped = subprocess.run([sys.executable, "-c", "import pip"]).returncode == 0
""",
    "become root": LIBC + "escaped = libc.setuid(0) == 0 or libc.setresuid(0, 0, 0) == 0 or os.getuid() == 0",
    "become root in a new namespace": LIBC + "escaped = libc.unshare(0x10000000) == 0",
    "clone into a new namespace": LIBC
    + f"""
escaped = libc.syscall({seccomp.CLONE.get(platform.machine(), 0)}, 0x10000000 | 17, 0, 0, 0, 0) >= 0
""",
    "mount": LIBC + "escaped = libc.mount(b'proc', b'.', b'proc', 0, None) == 0",
    "unmount what covers the packages": LIBC
    + """
import os
from glob import glob
escaped = any(libc.umount2(path.encode(), 2) == 0 for path in glob("/python/lib*/python3*/*-packages"))
""",
    "make a device": "import os, stat\nos.mknod('disk', 0o600 | stat.S_IFBLK, os.makedev(8, 0))\nescaped = True",
    "trace its parent": LIBC + "escaped = libc.ptrace(16, os.getppid(), 0, 0) == 0",
    "read its parent's memory": LIBC
    + """
buffer = ctypes.create_string_buffer(8)
vector = (ctypes.c_size_t * 2)(ctypes.addressof(buffer), 8)
escaped = libc.process_vm_readv(os.getppid(), vector, 1, vector, 1, 0) == 8
""",
    "take a descriptor of its parent": LIBC
    + "escaped = any(libc.syscall(438, os.pidfd_open(1), d, 0) >= 0 for d in range(16))",
    "leave shared memory behind": LIBC + "escaped = libc.shmget(1234, 1 << 20, 0o1666) >= 0",
    "hold memory in a file without a name": "import os\nescaped = bool(os.memfd_create('x'))",
    "raise its limits": """
import resource
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
escaped = True
""",
    "limit its parent": "import resource\nresource.prlimit(1, resource.RLIMIT_CPU, (1, 1))\nescaped = True",
    "start many threads": """
import threading, time
for _ in range(100): threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
escaped = True
""",
    "fork without end": "import os\nwhile True: os.fork()",
    "fork without end and without failing": """
import os
while True:
    try: os.fork()
    except OSError: pass
""",
    "kill everything": "import os\nos.kill(-1, 9)\nescaped = os.getppid() != 1",
    "signal the process that started it": "import os\nos.kill(os.getpgid(1), 0)\nescaped = os.getppid() != 1",
    "write past the case's folder": "open('../x', 'wb').write(bytes(1 << 30))\nescaped = True",
    "hold many open files": "files = [open('/dev/null') for _ in range(1000)]\nescaped = True",
    "lock memory": LIBC + "escaped = libc.mlockall(3) == 0",
    "set the clock": "import time\ntime.clock_settime(time.CLOCK_REALTIME, 0)\nescaped = True",
    "rename the host": "import socket\nsocket.sethostname('x')\nescaped = True",
    "raise its priority": "import os\nos.nice(-5)\nescaped = True",
    "give a device of the host another time by its descriptor": "import os\nos.utime(os.open('/dev/zero', os.O_RDWR))\nescaped = True",
    "lease a file": """
import fcntl, os
escaped = fcntl.fcntl(os.open("own", os.O_RDONLY | os.O_CREAT), fcntl.F_SETLEASE, fcntl.F_RDLCK) == 0
""",
    "ask who locks a file of the host": """
import fcntl, os, struct
escaped = bool(fcntl.fcntl(os.open(os.__file__, os.O_RDONLY), fcntl.F_GETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0)))
""",
    "lock a file of the host by its description": """
import fcntl, os, struct
lock = struct.pack("hhqqi4x", fcntl.F_RDLCK, 0, 0, 0, 0)
escaped = bool(fcntl.fcntl(os.open(os.__file__, os.O_RDONLY), 37, lock))
""",
    "leave a mark on a file of the host": """
import fcntl, os
escaped = bool(fcntl.fcntl(os.open(os.__file__, os.O_RDONLY), 1036, bytes(8)))
""",
    "use a terminal": "import os\nescaped = bool(os.open('/dev/tty', os.O_RDWR))",
    "read the disk": "escaped = any(open(p, 'rb') for p in ('/dev/sda', '/dev/vda', '/dev/mem', '/dev/kmsg'))",
}


@functools.cache  # not a fixture of the module: in a random order pytest would make that anew at every change of its parameter
def judgements(isolation):
    """Each attempt is followed by a harmless program, in the same sandbox."""
    cases = [case for program in HOSTILE.values() for case in (script(program), HARMLESS)]
    results = list(pool.verdicts(cases, require(isolation), LIMITS, workers=1))
    return dict(zip(HOSTILE, zip(results[::2], results[1::2], strict=True), strict=True))


@pytest.fixture(params=["namespaces", "bubblewrap"])
def judged(request):
    return judgements(request.param)


@pytest.mark.parametrize("attempt", HOSTILE)
def test_no_program_can(attempt, judged):
    hostile, harmless = judged[attempt]
    assert hostile.kind not in ("passed", "untested", "syntax"), hostile
    assert not hostile.detail.startswith(("NameError", "AttributeError", "TypeError")), "the attempt itself is broken"
    assert harmless.kind == "passed", harmless


def test_there_are_enough_of_them():
    assert len(HOSTILE) >= 40


@pytest.mark.skipif(not landlock.version(), reason="this kernel has no Landlock")
def test_landlock_alone_lets_nothing_run_in_the_work_folder(tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    (work / "own").write_text("#!/bin/sh\n")
    (work / "own").chmod(0o755)
    run = "import subprocess, sys\nprint(subprocess.run(sys.argv[1:]).returncode)"
    restricted = (
        "import ctypes, pathlib\nfrom tasks.io.sandbox.guest import landlock\nctypes.CDLL(None).prctl(38, 1, 0, 0, 0)\n"
        f"landlock.restrict(pathlib.Path({str(work)!r}))\n{run}"
    )  # nobody but root may restrict itself without giving up new privileges first

    def said(*words):
        done = subprocess.run([sys.executable, "-c", *words], capture_output=True, text=True, cwd=ROOT)
        return done.stdout.strip() or done.stderr.splitlines()[-1].partition(":")[0]

    assert said(run, str(work / "own")) == said(restricted, "/bin/true") == "0"
    assert said(restricted, str(work / "own")) == "PermissionError"


def test_a_crash_starts_no_handler_of_the_host():
    # The kernel starts a handler that core_pattern names whatever the limit is, but for a limit of one byte.
    limit = min(1, resource.getrlimit(resource.RLIMIT_CORE)[1] % 2**64)
    result = verdict(
        script("import resource", f"assert resource.getrlimit(resource.RLIMIT_CORE) == ({limit}, {limit})")
    )
    assert result.kind == "passed", result


def test_files_and_sockets_of_the_host_are_out_of_reach(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("treasure")
    secret.chmod(0o666)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("\0ratchet-test-" + str(os.getpid()))
        listener.listen()
        connect = (
            f"import socket\nsocket.socket(socket.AF_UNIX).connect('\\0ratchet-test-{os.getpid()}')\nescaped = True"
        )
        results = verdicts(
            script(f"escaped = open({str(secret)!r}).read()"),
            script(f"open({str(secret)!r}, 'w').write('gone')\nescaped = True"),
            script(connect),
        )
    assert [result.kind for result in results] == ["exception"] * 3
    assert secret.read_text() == "treasure"


def test_every_call_of_the_filter_is_refused():
    numbers = [*seccomp.REFUSED[platform.machine()].values(), *seccomp.COMMON_REFUSED.values()]
    program = (
        LIBC + f"escaped = [n for n in {numbers} if libc.syscall(n, 0, 0, 0, 0, 0, 0) != -1 or ctypes.get_errno() != 1]"
    )
    assert verdicts(script(program, "assert escaped == [], escaped"))[0].kind == "passed"


def test_the_user_inside_is_nobody_and_has_no_capability():
    program = (
        LIBC
        + """
header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
assert libc.capget(header, data) == 0
groups = {*os.getgroups()} - {65534}  # an ordinary user may not give up groups, which belong to nobody inside
facts = os.getuid(), os.getgid(), groups, list(data), libc.prctl(39, 0, 0, 0, 0), sorted(os.listdir("/"))
"""
    )
    expected = (65534, 65534, set(), [0] * 6, 1, ["dev", "python", "work"])
    assert verdicts(script(program, f"assert facts == {expected}, facts"))[0].detail == ""


def test_the_number_of_files_is_held_too():
    program = "for index in range(100_000): open(str(index), 'w').close()\nescaped = True"
    with Sandbox("namespaces", Limits()) as sandbox:
        assert sandbox.judge(script(program)).detail == "OSError: [Errno 28] No space left on device: '4094'"
        assert sandbox.judge(HARMLESS).kind == "passed"


def test_nothing_that_a_program_writes_can_be_mapped_to_run():
    """A loader maps a program and runs it, and needs no right to execute the file."""
    copy = """
import os, pathlib, shutil, subprocess, sys
loader = next(str(path) for path in pathlib.Path("/python/libraries").glob("ld-*"))
shutil.copy(sys.executable, "copy")
ran = subprocess.run([loader, "--library-path", "/python/libraries", "./copy", "-S", "-c", "pass"], capture_output=True)
escaped, told = ran.returncode == 0, ran.stderr.decode()
"""
    with Sandbox("namespaces", QUICK) as sandbox:
        assert "failed to map segment" in sandbox.judge(script(copy, "assert escaped, told")).detail
        assert sandbox.judge(script(copy.replace("./copy", str(INTERPRETER)), "assert escaped, told")).detail == ""


def test_the_times_of_the_hosts_devices_stay():
    before = Path("/dev/null").stat().st_mtime_ns
    verdicts(script("import os\nos.utime('/dev/null', (1, 1))"), script("import os\nos.utime('/dev/null')"))
    assert Path("/dev/null").stat().st_mtime_ns == before


def test_a_database_in_a_file_works_although_nothing_is_locked():
    pytest.importorskip("sqlite3")
    program = """
import sqlite3
with sqlite3.connect("rows.db") as base:
    base.execute("create table t (n int)")
    base.executemany("insert into t values (?)", [(1,), (2,)])
"""
    ask = "assert sqlite3.connect('rows.db').execute('select sum(n) from t').fetchone() == (3,)"
    assert verdicts(script(program, ask))[0].detail == ""


def test_the_folder_is_as_new_for_the_next_case():
    first = script("import os\nos.chmod('/work', 0o1777)\nos.umask(0)\nopen('left', 'w').close()\nescaped = True")
    facts = "import os\nfacts = oct(os.stat('/work').st_mode), oct(os.stat('.').st_mode), os.listdir('/work'), os.listdir('.')"
    with Sandbox("namespaces", QUICK) as sandbox:
        assert sandbox.judge(first).kind == "passed"
        expected = "assert facts == ('0o40700', '0o40755', ['case'], []), facts"
        assert sandbox.judge(script(facts, expected)).detail == ""


def test_the_users_umask_decides_nothing():
    before = os.umask(0o077)
    try:
        facts = "import os\nopen('made', 'w').close()\nfacts = oct(os.stat('made').st_mode), os.getuid()"
        assert verdicts(script(facts, "assert facts == ('0o100644', 65534), facts"))[0].detail == ""
    finally:
        os.umask(before)


def test_a_planted_file_of_the_home_folder_is_not_found():
    assert Path.home().exists()
    program = f"import os\nescaped = os.path.exists({str(Path.home())!r}) and os.listdir({str(Path.home())!r})"
    assert verdicts(script(program))[0].kind == "assertion"
