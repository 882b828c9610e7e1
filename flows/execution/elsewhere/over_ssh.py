"""Start a far side by the program `ssh`."""

import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO

from flows.execution import supervisor
from flows.execution.elsewhere import boot, channel, hosts
from flows.execution.elsewhere.channel import Unreachable
from flows.execution.elsewhere.hosts import Host

CONNECT_S = 10
"""Seconds within which a host has to answer."""
OPTIONS = (
    "-T", "-x", "-a",
    "-o", "BatchMode=yes",  # never ask for a password, as there may be nobody to answer
    "-o", f"ConnectTimeout={CONNECT_S}",
    "-o", "ServerAliveInterval=15",
    "-o", "ServerAliveCountMax=4",
    "-o", "LogLevel=ERROR",
)  # fmt: skip
"""Follow the options of the hosts file: if an option is given twice, `ssh` takes the first value."""


class Ssh:
    """The channel of a process `ssh`."""

    def __init__(self, name: str, host: Host, process: "subprocess.Popen[bytes]", errors: IO[bytes]) -> None:
        self._name, self._host, self._process, self._errors = name, host, process, errors
        assert process.stdin
        assert process.stdout
        self.incoming, self.outgoing = process.stdout, process.stdin

    def end(self) -> tuple[int, str]:
        """Return the exit code of ssh, which is 255 if it could not connect, and its last output."""
        with suppress(BrokenPipeError):
            self.outgoing.close()
        try:
            self._process.wait(2 * supervisor.PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.terminate()
            self._process.wait()
        self.incoming.close()
        self._errors.seek(0)
        return self._process.returncode, channel.last_words(self._errors.read())

    def explain(self, code: int, said: str) -> str:
        """Return the reason why the far side did not start."""
        host = self._host
        by_hand = shlex.join(["ssh", *host.options, host.ssh])

        if code in (126, 127):
            return f"there is no Python at `{host.python}` there ({said}). `python` in {hosts.path()} says how it is found."
        if "Host key verification failed" in said or "host key" in said.lower():
            return f"the key of {host.ssh} differs from the known one ({said}). Connect once by hand and compare it: {by_hand}"
        if "Permission denied" in said and code == 255:
            return f"{host.ssh} refuses the login ({said}). `{by_hand} true` must work without a question: see ssh-copy-id and ssh-agent."
        if code == 255 and said:
            return f"{said}. `{by_hand} true` has to work; {hosts.path()} says how {self._name} is reached."
        return channel.explain(host, code, said)


@contextmanager
def opened(name: str, host: Host, size: int) -> Iterator[Ssh]:
    """Yield a channel to a far side whose modules have `size` bytes. Raises Unreachable if there is no program `ssh`."""
    if shutil.which("ssh") is None:
        raise Unreachable(f"{name}: there is no `ssh` here. Install it (Debian: openssh-client).")
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            ["ssh", *host.options, *OPTIONS, "--", host.ssh, _command(host, size)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
        made = Ssh(name, host, process, errors)
        try:
            yield made
        finally:
            made.end()


def _command(host: Host, size: int) -> str:
    words = [*shlex.split(host.python), "-c", boot.PROGRAM, host.folder, str(size)]
    return " ".join(
        f'"$HOME"/{shlex.quote(word[2:])}' if word.startswith("~/") else shlex.quote(word) for word in words
    )
