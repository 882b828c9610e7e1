"""The file system of a sandbox: a Python interpreter, its standard library, and the shared libraries it needs.

All of it is below `/python`, wherever it is on the host, so that programs see the same paths on every machine.
"""

import json
import os
import subprocess
import sys
import sysconfig
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path("/python")
INTERPRETER = ROOT / "bin" / "python3"
LIBRARIES = ROOT / "libraries"
MODULES = ROOT / "server"
GUEST = Path("tasks", "io", "sandbox", "guest")
SERVER = ("-m", ".".join((*GUEST.parts, "server")))
WORK = Path("/work")
DEVICES = tuple(Path("/dev", name) for name in ("null", "zero", "full", "random", "urandom"))
PACKAGES = ("site-packages", "dist-packages")

# Not -I or -E: they would ignore the fixed hash seed. The rest of the environment is cleared.
PYTHON_FLAGS = ("-P", "-s", "-S", "-B")
ENVIRONMENT = {
    "HOME": str(WORK),
    "LC_ALL": "C.UTF-8",
    "MALLOC_ARENA_MAX": "1",  # or each thread would reserve 64 MB of the limit on address space
    "PYTHONHASHSEED": "0",
    "PYTHONPATH": str(MODULES),
    "PYTHONUTF8": "1",
    "TZ": "UTC",
}

LIST_MAPPED = """
import ctypes, importlib, json, pathlib, sys
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.so")):
    name = path.name.partition(".")[0]
    if not name.startswith(("_test", "_xx", "xx", "_ctypes_test", "_tkinter")):
        try:
            importlib.import_module(name)
        except ImportError:
            pass  # what the host cannot load, the sandbox need not
try:
    ctypes.CDLL("libgcc_s.so.1")  # glibc loads it when a thread ends
except OSError:
    pass
lines = pathlib.Path("/proc/self/maps").read_text().splitlines()
print(json.dumps(sorted({line.split(maxsplit=5)[5] for line in lines if ".so" in line})))
"""


class Bind(NamedTuple):
    """A file or folder of the host, and its read-only path inside."""

    source: Path
    target: Path


class Layout(NamedTuple):
    """The contents of a sandbox's file system, except its work folder."""

    binds: tuple[Bind, ...]
    masks: tuple[Path, ...]
    """Folders inside that are hidden by empty ones."""
    command: tuple[str, ...]
    """Command that starts the server inside."""


@cache
def layout() -> Layout:
    """Return the layout for the running interpreter."""
    stdlib = Path(sysconfig.get_path("stdlib")).resolve()
    inside = ROOT / sys.platlibdir / stdlib.name
    libraries, loader = shared_libraries(stdlib)
    binds = [
        Bind(host_interpreter(), INTERPRETER),
        Bind(stdlib, inside),
        Bind(Path(__file__).with_name(GUEST.name).resolve(), MODULES / GUEST),
        *libraries,
    ]
    masks = tuple(inside / name for name in PACKAGES if (stdlib / name).is_dir())
    # The loader is called by its path inside: the interpreter expects it at a path that differs between distributions.
    loading = (str(loader), "--library-path", str(LIBRARIES)) if loader else ()
    return Layout(tuple(binds), masks, (*loading, str(INTERPRETER), *PYTHON_FLAGS, *SERVER, str(WORK)))


def host_interpreter() -> Path:
    """Return the real interpreter, not the link in a virtual environment."""
    return Path(getattr(sys, "_base_executable", None) or sys.executable).resolve()


def shared_libraries(stdlib: Path) -> tuple[list[Bind], Path | None]:
    """Return the libraries that Python and its extension modules load, under each of their names, and the dynamic loader."""
    beside = stdlib / "lib-dynload"  # a relocated interpreter reports another path in its config
    extensions = beside if beside.is_dir() else sysconfig.get_config_var("DESTSHARED")
    command = [str(host_interpreter()), "-I", "-S", "-c", LIST_MAPPED, str(extensions)]
    mapped = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    real = {Path(name).resolve() for name in mapped if not Path(name).is_relative_to(stdlib)}
    binds = [Bind(path, LIBRARIES / name) for path in sorted(real) for name in names_of(path)]
    loaders = [bind.target for bind in binds if bind.target.name.startswith("ld-")]
    return binds, min(loaders, default=None)


def names_of(library: Path) -> list[str]:
    """Return the names of a library: its file's and those of links to it.

    Programs load libz.so.1, the file is libz.so.1.3.1.
    """
    return [library.name, *_links(library.parent).get(library, [])]


@cache
def _links(folder: Path) -> dict[Path, list[str]]:
    """Return the links to libraries in a folder: each library's real path → their names."""
    names: dict[Path, list[str]] = {}
    with os.scandir(folder) as entries:
        links = sorted(entry.name for entry in entries if ".so" in entry.name and entry.is_symlink())
    for name in links:
        names.setdefault((folder / name).resolve(), []).append(name)
    return names
