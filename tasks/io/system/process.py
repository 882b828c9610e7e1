"""The main function of a separate process (a stage, a trial): quiet libraries, end with its parent, and one message for an error that users can fix."""

import ctypes
import errno
import logging
import os
import platform
import pwd
import shutil
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from tasks.core import environment
from tasks.core.compute import Compute
from tasks.core.text.visible import without_passwords
from tasks.io.system import progress

PR_SET_PDEATHSIG = 1
TERMINATED = 128 + signal.SIGTERM
TOLD = 1
"""The exit code after the message of an error that users can fix, and after the traceback of a bug."""
PEER_LOST = 75
"""The exit code if another process of a shared training was lost, which is not an error of this process."""
LIBRARIES = {
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TORCHDYNAMO_DISABLE": "1",  # nothing here is compiled; bitsandbytes would load a compiler, or depend on the compiler of this machine
    "TRANSFORMERS_VERBOSITY": "error",
    "USE_HUB_KERNELS": "NO",
}
"""Environment variables for the libraries of stages: no progress bars beside ours, no warnings, no downloaded kernels."""


def run(main: Callable[[], object], label: str = "", *, forked: bool = False) -> int:
    """Run `main` as the main function of this process, and return the exit code.

    The process ends with the one that started it; a child of the fork server (`forked`) ensures that itself. An error that users can fix
    is reported in one message, after `label`.
    """
    quiet()
    if forked:
        signal.signal(signal.SIGTERM, _terminate)
    else:
        die_with_parent()
    try:
        main()
    except expected() as error:
        if os.environ.get(environment.TRACEBACK):
            raise
        progress.say(f"{label}{explain(error)}")
        return PEER_LOST if has_lost_peer(error) else TOLD
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


def set_threads(compute: Compute) -> None:
    """Set the number of OpenMP threads. Call it before numpy or torch is imported, because they read the number once."""
    os.environ[environment.OMP_THREADS] = str(compute.threads)


def keep_few_kernels() -> None:
    """Let oneDNN cache the kernels of 64 shapes in place of 1,024. Call it before the first kernel, because oneDNN reads the number once.

    It is for trainings, whose packs differ in length: kernels for each length fill hundreds of MB and are rarely used again. Decoding uses more
    than 64 shapes at each token and would recreate all of them (measured: ten times as long in bf16).
    """
    environment.set_defaults({"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64"})


def quiet() -> None:
    """Switch off telemetry, warnings and downloaded code of the libraries of stages, unless the user set them differently."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # they are for maintainers; our tests turn them into errors
    # transformers imports bitsandbytes if it is installed, which then warns about a missing kernel that `_settle` would switch off.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    environment.set_defaults(environment.NO_TELEMETRY | environment.NO_PICKLE | LIBRARIES)
    environment.set_defaults({"HF_HOME": str(Path(".ratchet/huggingface").resolve())})


def die_with_parent() -> None:
    """End this process when the one that started it ends. Otherwise DVC would start a second writer beside it.

    It ends like on Ctrl-C, with its run closed and its lock released.
    """
    signal.signal(signal.SIGTERM, _terminate)
    parent = os.getppid()
    if platform.system() == "Linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            raise SystemExit(TERMINATED)
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second signal must not interrupt the closing of the run
    raise SystemExit(TERMINATED)


NO_ROOM = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota of the disk is used up",
    errno.EFBIG: "a file would be larger than is allowed here (`ulimit -f`, or the file system)",
}
"""Error number of the system → its meaning."""


def explain(error: Exception) -> str:
    """Return a message on which users can act.

    Errors of Rust libraries have no number, but their text ends in `(os error 28)`.
    """
    for number, problem in NO_ROOM.items():
        if getattr(error, "errno", None) == number or f"(os error {number})" in str(error):
            where = getattr(error, "filename", None) or (
                f"the system does not say where; the disk of {Path.cwd()} has {shutil.disk_usage('.').free / 1e9:.1f} GB free"
            )
            return f"{problem} ({where}). Free some space and run it again; nothing was half written."
    if (
        isinstance(error, OSError)
        and isinstance(error.filename, str)
        and (told := _refused(error, Path(error.filename)))
    ):
        return without_passwords(told)
    if has_lost_peer(error):
        return "another process of this training has ended."
    return without_passwords(str(error))


def _refused(error: OSError, path: Path) -> str:
    """Return a message with a remedy about a path that the system refused; empty for another error."""
    if error.errno == errno.EROFS:
        return f"{path}: its file system is read-only. Mount it for writing, or work in a copy of {Path.cwd()} on another disk."
    if error.errno in (errno.EACCES, errno.EPERM) and error.strerror:
        at = next((place for place in (path, *path.absolute().parents) if os.access(place, os.F_OK)), Path("/"))
        owner, user = _user(at.stat().st_uid), _user(os.geteuid())
        whose = "It belongs" if at == path else f"{at} belongs"
        return (
            f"{path}: {error.strerror.lower()}. {whose} to {owner}, and this process runs as {user}: let {owner} run it, or give {user} the "
            "right (`ls -ld`, `chown`, `chmod`)."
        )
    if error.errno == errno.ENOENT and path.is_symlink():
        return f"{path} is a link to {path.readlink()}, which is not there. Correct the link, or remove it."
    return ""


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:  # for example in a container
        return f"user {number}"


def has_lost_peer(error: Exception) -> bool:
    """Return True if an error says that another process of a training does not respond. gloo raises plain RuntimeErrors."""
    torch = sys.modules.get("torch")
    return torch is not None and (isinstance(error, torch.distributed.DistError) or "/gloo/" in str(error))


def expected() -> tuple[type[Exception], ...]:
    """Return the types of errors that users can fix. Others are bugs and show a traceback."""
    writers = {
        "safetensors": "SafetensorError",
        "polars.exceptions": "PolarsError",
        "duckdb": "Error",
    }  # raised in place of OSError
    loaded = [getattr(sys.modules[module], name) for module, name in writers.items() if module in sys.modules]
    return (ValueError, RuntimeError, OSError, *loaded)
