"""Connect to a host by the program `ssh`, start the far side there, and say in one sentence why that failed."""

import hashlib
import json
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from flows.execution import supervisor
from flows.execution.elsewhere import far_side, frames, hosts
from flows.execution.elsewhere.frames import Link
from flows.execution.elsewhere.hosts import Host
from tasks.io.system import timer

CONNECT_S = 10
"""Seconds in which a host has to answer."""
OPTIONS = (
    "-T", "-x", "-a",
    "-o", "BatchMode=yes",  # no question for a password: nobody may be there to answer
    "-o", f"ConnectTimeout={CONNECT_S}",
    "-o", "ServerAliveInterval=15",
    "-o", "ServerAliveCountMax=4",
    "-o", "LogLevel=ERROR",
)  # fmt: skip
BOOT = """\
import os, sys
if sys.version_info < (3, 11): sys.exit("Python " + sys.version.split()[0] + " is older than 3.11")
data = b""
while len(data) < int(sys.argv[2]): data += os.read(0, int(sys.argv[2]) - len(data)) or sys.exit("the connection ended")
import json; from pathlib import Path
sent = json.loads(data)
code = Path(sys.argv[1]).expanduser() / "code" / sent["digest"]
for name, text in sent["files"].items():
    path = code / name
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    partial.write_text(text)
    partial.replace(path)
sys.path.insert(0, str(code))
from flows.execution.elsewhere import far_side
sys.exit(far_side.main(sys.argv[1]))
"""
"""The program that the command line has: it receives the modules of the far side, and becomes it."""


@dataclass(frozen=True)
class Facts:
    """The facts that a host tells of itself when it is connected."""

    python: str
    packages: dict[str, str]
    """Name → version of what is installed."""
    free: int
    """Bytes that are free in its folder."""


class Unreachable(RuntimeError):
    """Raised when a host cannot be used or was lost; the message says what would do."""


@contextmanager
def opened(name: str, host: Host) -> Iterator[tuple[Link, Facts]]:
    """Connect to a host, and yield the link to it. At the end of the block the far side ends with all that it started.

    Raises Unreachable where that fails, or the connection ends within the block.
    """
    if shutil.which("ssh") is None:
        raise Unreachable(f"{name}: there is no `ssh` here. Debian's package openssh-client has it.")
    program = _code()
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [*_ssh(host), _command(host, len(program))], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
        )
        assert process.stdin
        assert process.stdout
        link, facts = Link(process.stdout, process.stdin), None
        try:
            with suppress(BrokenPipeError):  # what ssh says of it comes below
                process.stdin.write(program)
                process.stdin.flush()
            frame = link.receive()
            facts = Facts(frame["python"], frame["packages"], frame["free"])
            with timer.every(frames.BEAT_S, lambda: _beat(link), "beat"):
                yield link, facts
        except frames.Gone:
            code, said = _end(process), _last_lines(errors)
            raise Unreachable(_explain(name, host, code, said) if facts is None else _lost(name, said)) from None
        finally:
            _end(process)


def _ssh(host: Host) -> list[str]:
    return ["ssh", *OPTIONS, *host.options, "--", host.ssh]


def _command(host: Host, size: int) -> str:
    words = [*shlex.split(host.python), "-c", BOOT, host.folder, str(size)]
    return " ".join(
        f'"$HOME"/{shlex.quote(word[2:])}' if word.startswith("~/") else shlex.quote(word) for word in words
    )


def _code() -> bytes:
    """Return the modules of the far side, as BOOT takes them. The packages that they stand in are empty there."""
    modules = (supervisor, far_side, frames)
    texts = {f"{module.__name__.replace('.', '/')}.py": Path(str(module.__file__)).read_text() for module in modules}
    packages = {folder.as_posix() for name in texts for folder in Path(name).parents if folder.name}
    texts |= {f"{package}/__init__.py": "" for package in packages}
    digest = hashlib.sha256(json.dumps(texts, sort_keys=True).encode()).hexdigest()[:16]
    return json.dumps({"digest": digest, "files": texts}).encode()


def _beat(link: Link) -> None:
    with suppress(frames.Gone):  # whoever receives is told
        link.send(frames.BEAT)


def _end(process: "subprocess.Popen[bytes]") -> int:
    """Close a connection, and return the exit code of ssh: 255 where it could not connect."""
    with suppress(BrokenPipeError):
        process.stdin.close()  # type: ignore[union-attr]
    try:
        process.wait(2 * supervisor.PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.terminate()
        process.wait()
    process.stdout.close()  # type: ignore[union-attr]
    return process.returncode


def _last_lines(errors: IO[Any]) -> str:
    errors.seek(0)
    lines = errors.read().decode(errors="replace").split("\n")
    return " ".join([line.strip() for line in lines if line.strip()][-2:]).rstrip(".")


def _explain(name: str, host: Host, code: int, said: str) -> str:
    """Return one sentence about why a connection is not there, and what would do."""
    by_hand = shlex.join(["ssh", *host.options, host.ssh])

    if code in (126, 127):
        return f"{name}: there is no Python at `{host.python}` there ({said}). `python` in {hosts.path()} says how it is found."
    if "older than 3.11" in said:
        return f"{name}: {said}, which `python` in {hosts.path()} names ({host.python}). Name a newer one."
    if "Host key verification failed" in said or "host key" in said.lower():
        return f"{name}: the key of {host.ssh} is not the known one ({said}). Connect once by hand and compare it: {by_hand}"
    if "Permission denied" in said and code == 255:
        return f"{name}: {host.ssh} refuses us ({said}). `{by_hand} true` has to work without a question: see ssh-copy-id and ssh-agent."
    if "No space left" in said:
        return f"{name}: the disk is full there ({host.folder})."
    if code == 255 and said:
        return f"{name}: {said}. `{by_hand} true` has to work; {hosts.path()} says how {name} is reached."
    return f"{name}: the far side did not start ({said or f'exit code {code}'})."


def _lost(name: str, said: str) -> str:
    because = f" ({said})" if said else ""
    return f"{name}: the connection ended{because}. What is finished is kept, and unfinished work lies there: run it again, and it goes on."
